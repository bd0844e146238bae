"""/docs: our own API on one page, read from the OpenAPI description; no script, nothing from elsewhere."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

_STYLE = files(__package__).joinpath("templates/docs.css").read_text(encoding="utf-8")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src "
    f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
}
_TEMPLATES = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)

router = APIRouter(include_in_schema=False)


@router.get("/docs", response_class=Response)
async def show_documentation(request: Request) -> Response:
    app: FastAPI = request.app
    page = _TEMPLATES.get_template("docs.html").render(
        title=app.title, version=app.version, sections=_sections(app.openapi()), style=_STYLE
    )
    return Response(page, headers=_HEADERS, media_type="text/html")


def _sections(description: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The operations under their tags, in the order of the routes."""
    schemas = description.get("components", {}).get("schemas", {})
    sections: dict[str, list[dict[str, Any]]] = {}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            sections.setdefault(operation.get("tags", ["other"])[0], []).append(
                {
                    "id": operation["operationId"],
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _example(_body_schema(operation), schemas),
                }
            )
    return sections


def _body_schema(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema: dict[str, Any] | None = content.get("application/json", {}).get("schema")
    return schema


def _example(schema: dict[str, Any] | None, schemas: dict[str, Any]) -> str | None:
    """The form of a body, a type standing for each value; optional members bear a question mark."""
    if schema is None:
        return None
    return orjson.dumps(_shape(schema, schemas), option=orjson.OPT_INDENT_2).decode()


def _shape(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        required = schema.get("required", [])
        return {
            name if name in required else f"{name}?": _shape(member, schemas)
            for name, member in schema["properties"].items()
        }
    if schema.get("type") == "array":
        return [_shape(schema.get("items", {}), schemas)]
    kinds = [option.get("type", "any") for option in schema.get("anyOf", [schema])]
    return " or ".join(kind for kind in kinds if kind != "null")
