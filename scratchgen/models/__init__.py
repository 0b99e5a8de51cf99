"""The models: one file each, written to be read beside its paper. Training them is the business of ``recipes``."""
