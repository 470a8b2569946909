"""The bake side: inputs → digest → root → disk → proof."""
