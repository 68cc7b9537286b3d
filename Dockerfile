# docker build --build-arg REVISION="$(git rev-parse HEAD)" -t streamer:0.1.0 .
#
# PYTHON is a tag of the official image, or better a tag and a digest: 3.13-slim@sha256:...
ARG PYTHON=3.13-slim

FROM python:${PYTHON} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# pip verifies the hash of every file.
COPY requirements.txt requirements-build.txt ./
RUN python -m venv --without-pip /opt/streamer \
    && pip --python /opt/streamer/bin/python install --require-hashes -r requirements.txt \
    && pip install --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas ./schemas
COPY streamer ./streamer
RUN python -m build --wheel --no-isolation \
    && pip --python /opt/streamer/bin/python install --no-deps --no-index dist/*.whl

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="streamer" \
      org.opencontainers.image.description="Sends email campaigns from Kafka through Resend" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin streamer
COPY --from=build /opt/streamer /opt/streamer
# The root may be read-only; /tmp should be writable.
ENV PATH=/opt/streamer/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
# Of `run`. Alive, not ready: a worker that waits for Redis must not be replaced.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('STREAMER_METRICS__PORT', '9464'), timeout=4)"]
ENTRYPOINT ["streamer"]
CMD ["run"]
