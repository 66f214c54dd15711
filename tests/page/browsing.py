"""A real browser on the page: opened, given files, and asked for pixels and downloads."""

import shutil
from contextlib import contextmanager

import numpy as np

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@contextmanager
def chromium():
    """Debian's Chromium, without a screen; its camera is a drawn one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def page_at(browser, address, width=1280):
    """The page as it is opened; asking another computer for anything is an error."""
    page, asked = browser.new_page(viewport={"width": width, "height": 900}, accept_downloads=True), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#pictures input[type=file]", state="attached")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def give(page, path, mask=None):
    """Gives a picture, and waits until it is shown."""
    if mask is not None:
        page.set_input_files("#masks input[type=file]", mask)
    page.set_input_files("#pictures input[type=file]", path)
    page.wait_for_selector("#shares table")
    page.wait_for_selector("#shown-0 img")


def shown(page, model=0, unlike=None):
    """The pixels that the page shows of a model, once they are others than `unlike`."""
    code = """async ([id, before]) => {
        for (;;) {
            const image = document.querySelector(id + " img");
            if (image && image.complete && image.naturalWidth && image.src !== before) {
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                canvas.getContext("2d").drawImage(image, 0, 0);
                const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                return [image.src, canvas.height, canvas.width, Array.from(data)];
            }
            await new Promise((done) => setTimeout(done, 50));
        }
    }"""
    source, height, width, values = page.evaluate(code, [f"#shown-{model}", unlike])
    return source, np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def downloaded(page, selector, folder):
    with page.expect_download() as waiting:
        page.click(selector)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path
