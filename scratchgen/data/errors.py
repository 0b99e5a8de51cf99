"""The one error of this package: something about a dataset that the user can put right."""


class DataError(Exception):
    """A dataset is unknown, missing, damaged or cannot be fetched; the message says what to do."""
