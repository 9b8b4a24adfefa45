"""The error of the engine side (``trt_build``, ``runtime``) that is the user's to mend."""


class UserError(Exception):
    """A user's mistake: one line saying what, what was got and what to do; exit code 2."""
