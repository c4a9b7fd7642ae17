# The bridge in an image: a virtual environment made from the locked packages, on a base that has Python and nothing
# else. The image holds no shell, no package installer and no build tool of ours, needs none, and writes only below
# /var/lib/otelbridge.
#
# Both bases are Debian 12 with Python at /usr/bin/python3, which is what a virtual environment points to. Tags move:
# a release is built with both pinned, NAME:TAG@sha256:DIGEST, by the two arguments; docs/decisions/image.md says why
# no digest stands here.
ARG BUILD_IMAGE=debian:12-slim
ARG RUN_IMAGE=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# Only this stage has it, and the base decides its version.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv python3-dev gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# One environment builds, with pip in it; the other is the product, without.
RUN ["python3", "-m", "venv", "/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/otelbridge"]
COPY locks/run.txt locks/
RUN ["/build/bin/pip", "install", "--require-hashes", "--only-binary=:all:", "-r", "locks/run.txt"]
RUN ["/build/bin/pip", "--python", "/opt/otelbridge/bin/python", "install", "--no-compile", "--require-hashes", "--only-binary=:all:", "-r", "locks/run.txt"]
# What the lock has for building is of no use at run time.
RUN ["/build/bin/pip", "--python", "/opt/otelbridge/bin/python", "uninstall", "-y", "hatchling", "editables", "cython", "trove-classifiers", "packaging", "pathspec", "pluggy", "tomlkit"]

COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY otelbridge otelbridge/
RUN ["/build/bin/pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/dist", "."]
RUN ["/build/bin/pip", "--python", "/opt/otelbridge/bin/python", "install", "--no-compile", "--no-deps", "--no-index", "--find-links", "/dist", "otelbridge"]
# Byte code of all that a start may import, Debian's own modules among it: the other base only unpacks those, and on a
# read-only root they were compiled at each start, which doubled what it takes. Valid for the very same source only.
ARG BYTE_CODE="import compileall, os, py_compile, sys; [compileall.compile_dir(path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH) for path in (os.path.dirname(os.__file__), sys.prefix)]"
RUN PYTHONPYCACHEPREFIX=/opt/otelbridge/bytecode /opt/otelbridge/bin/python -c "${BYTE_CODE}"
# What is in there, as CycloneDX has it: written by an environment that is thrown away, about the product's.
RUN ["python3", "-m", "venv", "/sbom"]
COPY locks/sbom.txt locks/
RUN ["/sbom/bin/pip", "install", "--require-hashes", "--only-binary=:all:", "-r", "locks/sbom.txt"]
RUN ["/sbom/bin/cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--output-reproducible", "-o", "/opt/otelbridge/sbom.cdx.json", "/opt/otelbridge/bin/python"]
# The queue's folder, to be copied with its owner: the other base cannot make one.
RUN ["install", "-d", "-m", "0700", "/state/otelbridge"]


FROM ${RUN_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="otelbridge" \
      org.opencontainers.image.description="The bridge between KubeArmor and OpenTelemetry: KubeArmor's security events as OTLP log records, with nothing lost on the way." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --from=build /opt/otelbridge /opt/otelbridge
COPY --from=build --chown=65532:65532 /state/otelbridge /var/lib/otelbridge

# Output at once, and no attempt to write byte code beside the modules: the root may be read-only.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/otelbridge/bytecode
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /var/lib/otelbridge
VOLUME ["/var/lib/otelbridge"]
# Probes, metrics and the status page.
EXPOSE 32799
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/otelbridge/bin/otelbridge"]
CMD ["run"]
