"""One report page, opened in a real browser."""

from pathlib import Path

OUTPUT = Path("test-output")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


class Visit:
    """One opened page, with everything that went wrong and everything it asked for."""

    def __init__(self, browser, path: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_function(
            "document.querySelector('#figure-plot svg.marks')"
            " && !document.querySelector('[aria-busy=true]')"
        )

    def open_task(self, task_id: str) -> None:
        self.page.evaluate("id => { location.hash = '#task=' + id; }", task_id)
        self.page.wait_for_selector("#task:not([hidden]) #task-folds svg.marks")
        self.settle()

    def column(self, table: str, number: int) -> list[str]:
        cells = self.page.locator(f"#{table} tbody tr > :nth-child({number})")
        return cells.all_inner_texts()

    def shoot(self, name: str) -> None:
        folder = OUTPUT / "screens"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(folder / f"{name}.png"), full_page=True)


def number(cell: str) -> float:
    return float(cell.replace("−", "-").split("±")[0].split()[0])
