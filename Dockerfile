# docker build -t bnfold .
# docker run --rm --network none -v "$PWD:/work" bnfold fold model.onnx -o folded.onnx
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY bnfold ./bnfold
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[html,images,tables]'

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels 'bnfold[html,images,tables]' && rm -r /wheels
# Files of strangers are looked at by nobody in particular.
RUN useradd --create-home bnfold
USER bnfold
WORKDIR /work
ENTRYPOINT ["bnfold"]
CMD ["--help"]
