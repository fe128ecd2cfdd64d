"""Which of the bundles that a server has open a request is for."""

from serving.errors import AbsentError
from serving.reload import Reloader
from serving.schemas import Which
from serving.served import Served


class Choice:
    """The served bundle and, where a server was given one, another to compare it with."""

    def __init__(self, served: Reloader, compared: Reloader | None = None) -> None:
        self.main, self.compared = served, compared

    @property
    def reloaders(self) -> list[Reloader]:
        """Of all bundles that are open."""
        return [self.main] if self.compared is None else [self.main, self.compared]

    def served(self, which: Which) -> Served:
        """The bundle as it is now. Raises AbsentError when there is none to compare with."""
        return self.reloader(which).served

    def reloader(self, which: Which) -> Reloader:
        """Who holds the bundle. Raises AbsentError."""
        if which == "served":
            return self.main
        if self.compared is None:
            raise AbsentError("this server has no second bundle. Cure: twotower serve --compare NAME")
        return self.compared
