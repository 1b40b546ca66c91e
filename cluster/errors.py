"""What a user can cure about a target."""


class TargetError(ValueError):
    """A job cannot be described, submitted or looked up as asked.

    Args:
        problem: one sentence that names the thing that is wrong.
        expected, found, likely, do: as of `musicvae.errors.UserError`, which the commands show it as.
    """

    def __init__(self, problem: str, *, expected: str = "", found: str = "", likely: str = "", do: str = "") -> None:
        self.problem = problem
        self.details = {"expected": expected, "found": found, "likely": likely, "do": do}
        super().__init__(problem)
