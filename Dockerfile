# onnx-ghn on a CPU, without torch:
#   docker build -t onnx-ghn .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" onnx-ghn predict model.onnx -o init.onnx
FROM python:3.13-slim AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=wheel /wheels /wheels
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)[cpu]" \
    && rm -r /wheels \
    && useradd --create-home --uid 1000 onnx-ghn
USER onnx-ghn
WORKDIR /work
ENTRYPOINT ["onnx-ghn"]
CMD ["--help"]
