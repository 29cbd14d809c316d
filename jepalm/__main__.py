"""`python -m jepalm`: what torchrun launches."""

from jepalm.cli import main

if __name__ == "__main__":
    main()
