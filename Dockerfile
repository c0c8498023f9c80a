# Serving image without torch: the first stage builds the wheel, the second has Python, ONNX Runtime and the bundle.
#
#   docker build -t compress .
#   docker run -p 8000:8000 compress                                   # the example bundle
#   docker run -p 8000:8000 -v "$PWD/bundles/de-en:/bundle:ro" compress
FROM python:3.11-slim AS builder

WORKDIR /source
COPY . .
RUN python -m venv /opt/compress \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && wheel=$(echo /wheels/*.whl) \
    && /opt/compress/bin/pip install --no-cache-dir -c constraints.txt "${wheel}[serve-cpu]"

FROM python:3.11-slim

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin compress
COPY --from=builder /opt/compress /opt/compress
COPY examples/de-en /bundle

ENV PATH=/opt/compress/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /tmp
EXPOSE 8000

HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]

ENTRYPOINT ["compress"]
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--port", "8000"]
