"""A person's way in a real browser: log in, fill the form, run, read the leaderboard."""

import os
from pathlib import Path

import pytest
from local_stacks import ENCODERS, until

PICTURES = Path(os.environ.get("TEST_OUTPUT", "test-output"))


@pytest.fixture
def page(browser, stack):
    one = browser.new_page(viewport={"width": 1300, "height": 1400})
    one.set_default_timeout(60_000)
    yield one
    take_picture(one, "last")
    one.close()


def take_picture(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"ui-{name}.png", full_page=True)


def choose(page, field, words):
    """Open a field of the form and choose from what it offers."""
    label = page.get_by_text(f"{field} (Optional)", exact=True)
    label.locator("xpath=following::button[normalize-space()='Select'][1]").click()
    for word in words:
        page.get_by_role("option", name=word, exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("option").first.wait_for(state="hidden")


def submit(page):
    """Send the form, and again where the server answers that its database was busy."""
    for _ in range(5):
        with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as told:
            page.get_by_role("button", name="Submit").click()
        if told.value.status != 503:
            break
    assert told.value.ok, told.value.text()


def test_a_person_runs_the_benchmark_from_a_form_and_reads_the_leaderboard(stack, page):
    before = len(stack.runs("benchmark"))
    page.goto(f"http://127.0.0.1:{stack.port}/")
    page.locator("input").first.fill(stack.login)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Deployments").first.click()
    # The dashboard, which is shown until the deployments are loaded, links to flows of this name.
    deployments = page.locator("a[href*='/deployments/deployment/']")
    deployments.get_by_text("benchmark", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    choose(page, "encoders", ENCODERS)
    choose(page, "families", ["genomic"])
    take_picture(page, "form")
    submit(page)

    until(lambda: len(stack.runs("benchmark")) > before, 60, stack.tail)
    run = stack.runs("benchmark")[-1]
    assert run["parameters"]["encoders"] == ENCODERS
    assert run["parameters"]["families"] == ["genomic"]
    assert stack.wait(run["id"], 300)["type"] == "COMPLETED"
    page.goto(f"http://127.0.0.1:{stack.port}/v2/runs/flow-run/{run['id']}")
    page.get_by_text("Completed", exact=True).first.wait_for()
    take_picture(page, "run")
    told = stack.artifact_ids("leaderboard")[-1]
    page.goto(f"http://127.0.0.1:{stack.port}/v2/artifacts/artifact/{told}")
    page.get_by_text("Leaderboard of release").first.wait_for()
    page.get_by_text("Bag of words").first.wait_for()
    take_picture(page, "leaderboard")
