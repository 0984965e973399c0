# jfsed_jax with JAX for CPU, or for NVIDIA GPUs:
#
#   docker build -t jfsed_jax .
#   docker build -t jfsed_jax:cuda --build-arg JAX_EXTRA=cuda12 .
#   docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" jfsed_jax predict --workdir W RECORDING.wav
#   docker run --rm --gpus all -v "$PWD:/work" jfsed_jax:cuda train --config configs/pts_tfd_afl_esp.py --data DIR --workdir W
#
# The wheels of jax[cuda12] bring CUDA; the host needs NVIDIA's driver and container toolkit.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim
ARG PYTHON
ARG JAX_EXTRA=

COPY . /tmp/jfsed_jax
RUN cd /tmp/jfsed_jax \
    && pip install --no-cache-dir --constraint "launch/constraints/${PYTHON}.txt" . ${JAX_EXTRA:+"jax[${JAX_EXTRA}]"} \
    && rm -rf /tmp/jfsed_jax

# Whoever runs it may write what is compiled once; it is not kept with the container.
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
ENTRYPOINT ["jfsed-jax"]
CMD ["--help"]
