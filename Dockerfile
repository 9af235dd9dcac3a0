# An image of fastlm with CUDA. docs/install.md says how to build and run it.
FROM python:3.12-slim

# torch.compile and Triton need compilers; with git a run can record the commit it was made with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/fastlm
COPY pyproject.toml README.md LICENSE ./
COPY fastlm ./fastlm
COPY kernels ./kernels
# The kernels are compiled for the processor of this machine; another one compiles its own.
RUN python -m pip install --no-cache-dir --disable-pip-version-check . && fastlm tokenizer compile

RUN useradd --create-home --uid 1000 fastlm && mkdir /work && chown fastlm:fastlm /work
USER 1000
WORKDIR /work

ENTRYPOINT ["fastlm"]
CMD ["--help"]
