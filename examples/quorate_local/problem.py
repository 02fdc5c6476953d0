"""The one error that people see: a sentence that names what is wrong and says what to do."""


class Problem(Exception):
    """Something this machine lacks or somebody else holds. The command ends with exit code 2 and this sentence, never a traceback."""
