FROM python:3.13-slim

WORKDIR /app
# pip verifies the hash of every file.
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt
COPY streamer ./streamer

ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home streamer
USER 10001

ENTRYPOINT ["python", "-m", "streamer"]
CMD ["run"]
