"""Text in, batches out: tokenizers, corpora, prepared pairs on disk, batches on the device."""
