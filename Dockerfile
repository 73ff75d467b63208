# An image that serves a classifier over HTTP on CPUs: docs/how-to/container.md.
FROM python:3.11-slim-bookworm AS build
# PyTorch's own wheels for CPUs. The wheels of PyPI bring several GB of CUDA libraries.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/whinchat \
    && /opt/whinchat/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# nf4: classifiers of QLoRA and QDoRA.
RUN /opt/whinchat/bin/pip install --no-cache-dir -c constraints.txt ".[serve,nf4]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/whinchat /opt/whinchat
# Downloaded models and packages go to /cache, which the user of the server owns.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp whinchat \
    && install --directory --owner whinchat --group whinchat /cache
ENV PATH=/opt/whinchat/bin:$PATH \
    WHINCHAT_CACHE=/cache/whinchat \
    HF_HOME=/cache/huggingface \
    PIP_NO_CACHE_DIR=1 \
    TQDM_DISABLE=1 \
    PYTHONUNBUFFERED=1
VOLUME /cache
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/ready', timeout=4)"]
# Without a shell between, so that the server itself gets the signals.
ENTRYPOINT ["whinchat"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8000", "--log-format", "json"]
