# CPU:   docker build -t jaxdet .
# CUDA:  docker build -t jaxdet:cuda --build-arg EXTRAS=cuda12,export .   and   docker run --gpus all jaxdet:cuda doctor
# Use:   docker run --rm -v "$PWD:/data" jaxdet predict --weights=yolox_nano.pth --input=photos --out=boxes.json
# JAX's wheels bring the CUDA libraries; the host needs the driver and the NVIDIA container toolkit only.
FROM python:3.12-slim
ARG EXTRAS=export
WORKDIR /jaxdet
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY jaxdet jaxdet
COPY configs configs
RUN pip install --no-cache-dir ".[${EXTRAS}]" && useradd --create-home user
USER user
ENV XDG_CACHE_HOME=/home/user/.cache
WORKDIR /data
ENTRYPOINT ["jaxdet"]
CMD ["--help"]
