#!/usr/bin/env bash
# Your own text, from file to report: examples/own_text.sh TEXT_FILE
set -euo pipefail
jepalm prepare text "$1" --name own --tokenizer byte
jepalm train --preset nano --data own
jepalm generate "$(head -n 1 "$1")"
jepalm report runs/latest
