"""Regular expressions in English: a grammar that draws pairs, and which expressions mean the same."""
