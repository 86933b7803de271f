# docker build --tag appraiser .                              the service; HTTP on port 8000
# docker build --tag appraiser-train --target train .        `appraiser`; trains into /app/artifacts
#
#   base -> environment -> training -> package            the wheel of this repository
#                                   -> train -> market    a default model, so that the service answers at once
#           environment + package -> installed
#   base + installed + market -> service

ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
# One user for service and training, because they share a volume. A number, so that Kubernetes can see that it is not
# root; 10001, because ids up to 10000 may belong to people and services of the host when a folder of it is mounted.
RUN groupadd --gid 10001 appraiser \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin appraiser
# The official image has no bytecode of the standard library, and on a read-only root no start could keep any: without
# this line a worker is ready half a second later and each health check costs 200 ms of a CPU instead of 50.
RUN python -m compileall -q -j 0 -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# Folders that are written to belong to group 0 and are its too: OpenShift gives each project uids of its own, in group 0.
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /app

# pip keeps its downloads in a cache of the builder, which is no part of any image, and compiles what it installs to
# bytecode. Wheels only, because there is no compiler.
FROM base AS environment
COPY requirements.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: --requirement /tmp/requirements.txt

# The versions of requirements.txt are those of requirements-train.txt: this adds to them and replaces none.
FROM environment AS training
COPY requirements-train.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: --requirement /tmp/requirements-train.txt

# Training's locked dependencies hold setuptools, so that building fetches nothing.
FROM training AS package
COPY . /source
RUN pip --python /opt/venv/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheels /source

FROM training AS train
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl \
 && install --directory --owner=10001 --group=0 --mode=0775 artifacts run journal
USER 10001:10001
ENTRYPOINT ["appraiser"]
CMD ["train", "--deploy"]

FROM train AS market
RUN appraiser train --version v1.0.0 && chmod -R g=u artifacts

FROM environment AS installed
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl

FROM base AS service
COPY --from=installed /opt/venv /opt/venv
COPY gunicorn.conf.py ./
COPY --from=market --chown=10001:0 /app/artifacts artifacts
# Volumes, since workers write here what they serve and what they have answered, also where the root is read-only.
RUN install --directory --owner=10001 --group=0 --mode=0775 run journal
VOLUME /app/run /app/journal
USER 10001:10001
EXPOSE 8000
# gunicorn is process 1 and gets the signal itself: finish what is in hand, then end with code 0.
STOPSIGNAL SIGTERM
# Every 5 s, because one costs 50 ms of a CPU, 1 %. The answer takes milliseconds and Python's start up to a second on a
# busy machine: 2 s for the answer, 3 s for both. Three in a row, so that one hiccup ends nothing. Ready takes 1 s: 20 s
# are for the slowest machine. http.client, because urllib would ask a proxy of the environment for 127.0.0.1.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or '8000'), timeout=2); \
connection.request('GET', '/health/ready'); \
sys.exit(connection.getresponse().status != 200)"]
# It checks the settings that gunicorn itself reads, and becomes gunicorn.
CMD ["appraiser", "serve"]
