# Two images, built by scripts/image:
#
#   sidecar      the program and nothing else, a container of a pod
#   queue-proxy  the program and Knative's queue-proxy, which it starts: the drop-in for KServe's own
#
# What compiles is an argument, for those who have to use their own; so is the queue-proxy's image, which has none to
# fall back to: it must be of the release of Knative that the cluster runs.
ARG RUST_IMAGE=docker.io/library/rust:1-bookworm
ARG QUEUE_IMAGE=scratch
ARG BUILDPLATFORM
ARG TARGETPLATFORM

# It runs on the machine's own architecture, and compiles for the image's.
FROM --platform=${BUILDPLATFORM} ${RUST_IMAGE} AS build
ARG TARGETARCH
# For another architecture there are Rust's library and a C compiler of Debian's, unless the image has them already.
RUN case "${TARGETARCH:-$(uname -m)}" in \
        amd64 | x86_64) machine=x86_64 ;; \
        arm64 | aarch64) machine=aarch64 ;; \
        *) echo "TARGETARCH=\"$TARGETARCH\": expected amd64 or arm64" >&2; exit 64 ;; \
    esac \
 && echo "$machine-unknown-linux-gnu" >/target \
 && if [ "$(uname -m)" = "$machine" ]; then \
        echo cc >/linker; \
    else \
        echo "$machine-linux-gnu-gcc" >/linker; \
        if command -v rustup; then rustup target add "$(cat /target)" || exit 1; fi; \
        if ! command -v "$(cat /linker)"; then \
            apt-get update && apt-get install -y --no-install-recommends \
                "gcc-$(echo "$machine" | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
        fi; \
    fi
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY examples examples
COPY tests tests
# A target is named so that the flags are for the program alone, not for the compiler's own helpers. Certificates are for
# targets behind TLS that name no authority of their own.
RUN target="$(cat /target)" \
 && RUSTFLAGS="-C target-feature=+crt-static -C linker=$(cat /linker)" \
        cargo build --release --locked --bin qpext --target "$target" \
 && install -D "target/$target/release/qpext" /image/qpext \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM --platform=${TARGETPLATFORM} ${QUEUE_IMAGE} AS queue

FROM scratch AS base
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="qpext" \
      org.opencontainers.image.description="One Prometheus endpoint for a Knative or KServe pod" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /image/etc /etc
USER 65532:65532
EXPOSE 9088

FROM base AS queue-proxy
COPY --from=build /image/qpext /ko-app/qpext
COPY --from=queue /ko-app/queue /ko-app/queue
ENTRYPOINT ["/ko-app/qpext", "run", "--", "/ko-app/queue"]

# The last one, which is built where no target is named.
FROM base AS sidecar
COPY --from=build /image/qpext /qpext
ENTRYPOINT ["/qpext"]
