import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import a_server

pytestmark = [pytest.mark.browser, pytest.mark.long]


async def test_the_documentation_of_a_language_shows_its_routes_and_tries_them(
    browser: Any, tmp_path: Path
) -> None:
    with a_server(tmp_path) as server:
        page = await browser.open(f"{server.url}/compat/viban/docs")
        await page.wait_for("document.querySelectorAll('.opblock').length >= 10")
        block = "#operations-default-health"
        await page.click(f"{block} .opblock-summary-control")
        await page.wait_for(f"document.querySelector('{block} .try-out__btn') !== null")
        await page.click(f"{block} .try-out__btn")
        await page.wait_for(f"document.querySelector('{block} .execute') !== null")
        await page.click(f"{block} .execute")
        answer = f"document.querySelector('{block} .live-responses-table')?.textContent"
        await page.wait_for(f"({answer} ?? '').includes('connected')")
        assert page.problems == []
        assert all(url.startswith((server.url, "data:")) for url in page.requests)
        await asyncio.to_thread(server.stop)
