from tests.world import IdentityServer


async def test_the_documentation_shows_every_endpoint_and_loads_nothing_from_elsewhere(server: IdentityServer) -> None:
    page = await server.client.get("/docs")
    description = (await server.client.get("/openapi.json")).json()
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "src=" not in page.text
    for path in description["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert "client_secret" in page.text
