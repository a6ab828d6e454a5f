# An image with the compiled kernels, for `sor consume` and every other command:
#
#   docker build -t sor .
#   docker run --rm sor demo
#   docker run --rm --read-only --tmpfs /tmp -e KAFKA_SERVERS=broker:9092 sor
#
# PYTHON_VERSION may be any that the package supports; the default is the newest of them.
ARG PYTHON_VERSION=3.13

# --- builder: a compiler, and the wheels of sor and of everything it needs --------------------------------------------

FROM python:${PYTHON_VERSION}-slim AS builder

# libc6-dev is only a recommendation of gcc's, and no extension compiles without it
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE smart_order_router.py kafka_sor_consumer.py ./
COPY sor sor

# no compiled kernels, no image; there is no git here to ask for the version
ARG VERSION
ENV SOR_REQUIRE_EXT=1
RUN --mount=type=cache,target=/root/.cache/pip \
    SETUPTOOLS_SCM_PRETEND_VERSION_FOR_SOR="${VERSION}" pip wheel --wheel-dir /wheels .

# --- the image: the wheels installed, nothing to build with -----------------------------------------------------------

FROM python:${PYTHON_VERSION}-slim

# SOR_REQUIRE_EXT: without its compiled kernels sor ends at once instead of running on their slow twin.
# The only file it writes is the heartbeat, so a read-only root with a tmpfs on /tmp will do.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SOR_REQUIRE_EXT=1 \
    SOR_HEARTBEAT_FILE=/tmp/sor-heartbeat

# `sor version` fails here, and with it the build, where the kernels do not load
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels sor \
 && sor version \
 && groupadd --gid 10001 sor \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin sor

WORKDIR /app
COPY sample.csv .

# a number, so that Kubernetes can tell that it is not root
USER 10001:10001

# `sor consume` touches the file every second: younger than half a minute is alive. Other commands write none, so
# switch the check off for them (--no-healthcheck).
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=2 \
    CMD test -n "$(find "$SOR_HEARTBEAT_FILE" -mmin -0.5)"

ARG PYTHON_VERSION
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sor" \
      org.opencontainers.image.description="Smart order router: splits an order over trading venues at the least cost, live over Kafka" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION:-unreleased}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON_VERSION}-slim"

# exec form: sor itself gets SIGTERM, finishes its batch, commits and leaves with 0
ENTRYPOINT ["sor"]
CMD ["consume"]
