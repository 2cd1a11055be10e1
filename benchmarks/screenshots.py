"""Make the README's pictures of the page: the sample channel, the real appliance, headless Chromium.

Run as ``python -m benchmarks.screenshots`` in the project's folder.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog
from PIL import Image

from appliance import sample
from appliance.app import open_app, open_doors
from appliance.config import Config
from appliance.logs import configure_logs
from tests.servers.browser import Page, open_page

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
MAX_BYTES = 200_000
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: what is asked, on what screen, and what is clicked then.

    Attributes
    ----------
    questions : tuple of str
        Asked one after another; none shows the first page.
    click : str
        CSS selector clicked at the end, or empty.
    width, height : int
        CSS pixels; a phone's are doubled in the picture.
    """

    name: str
    questions: tuple[str, ...] = ()
    click: str = ""
    width: int = 1200
    height: int = 780
    phone: bool = False
    dark: bool = False


FIRST_SOURCE = ".answer .chip, .card .open"
SCENES = (
    Scene("start"),
    Scene("answer", ("Почём аренда зала «Причал» для участников?",), click=FIRST_SOURCE),
    Scene("dark", ("Чем склеить дерево с металлом?", "А кожу?"), dark=True),
    Scene("not-found", ("Сколько стоит прокат лодки?",)),
    Scene("phone", ("Чем склеить дерево с металлом?",), width=380, height=780, phone=True),
)


async def play(page: Page, url: str, scene: Scene) -> None:
    """Bring the page to a scene."""
    await page.screen(scene.width, scene.height, phone=scene.phone, dark=scene.dark, scale=2 if scene.phone else 1)
    await page.open(url + "/")
    await page.until("document.querySelector('#examples li')")
    for number, question in enumerate(scene.questions, start=1):
        await page.click("#question")
        await page.type(question)
        await page.press("Enter", code=13, text="\r")
        await page.until(f"document.querySelectorAll('.figures').length === {number}")
        await asyncio.sleep(0.4)  # snippets come
    if scene.click:
        await page.click(scene.click)
        await page.until("document.querySelector('#post').open && document.querySelector('#post-text').innerText")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=scene.height - 2)
    await page.do("document.activeElement.blur()")
    await asyncio.sleep(0.4)  # transitions end


def packed(png: bytes) -> bytes:
    """Return a PNG of 256 colours, which a page of text does not miss."""
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


async def make(folder: Path) -> None:
    """Write every scene's picture.

    Parameters
    ----------
    folder : Path
        Where they go.

    Raises
    ------
    ValueError
        A picture above `MAX_BYTES`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config = Config().model_copy(update={"data_dir": Path(scratch) / "data", "host": "127.0.0.1"})
        async with open_app(config) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            async with open_doors(app, port=0, with_bot=False) as url, open_page() as page:
                for scene in SCENES:
                    await play(page, url, scene)
                    file = folder / f"{scene.name}.png"
                    await page.picture(file)
                    png = packed(file.read_bytes())
                    if len(png) > MAX_BYTES:
                        raise ValueError(f"{file.name} has {len(png)} bytes.")
                    file.write_bytes(png)
                    log.info("picture", file=file.name, bytes=len(png))


if __name__ == "__main__":
    configure_logs("auto")
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(FOLDER))
