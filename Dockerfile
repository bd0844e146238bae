# Two stages: one builds the wheel and installs it, the other holds what came of it and nothing else.
# The Python version is the one that the tests run on.
FROM python:3.11-slim-bookworm AS build

WORKDIR /source
RUN python -m venv /opt/identity-server
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY alembic alembic
COPY identity_server identity_server
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && /opt/identity-server/bin/pip install --no-cache-dir -c constraints.txt "$(echo /wheels/*.whl)[redis]"


FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin identity \
    && install -d -m 0700 -o identity -g identity /data
COPY --from=build /opt/identity-server /opt/identity-server

# Inside a container every interface is the container's own; what is published is decided outside.
ENV PATH=/opt/identity-server/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IDENTITY_SERVER_SERVER__BIND=0.0.0.0 \
    IDENTITY_SERVER_SERVER__DATA_DIR=/data \
    IDENTITY_SERVER_HOMESERVER__BIND=0.0.0.0

USER 10001
WORKDIR /data
VOLUME /data
# 8090: the identity server. 8008 and 8448: the bundled homeserver's clients and other servers.
EXPOSE 8090 8008 8448

ENTRYPOINT ["identity-server"]
CMD ["serve"]

# For `serve` on its usual port; docker-compose.yml has the one for `homeserver`.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8090/health', timeout=4)"]
