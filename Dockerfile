# The sidecar as an image: one static binary and nothing else.
#
#   docker build -t qpext:0.1.0 .
#
# The image that compiles is an argument, for those who have to use their own.
ARG RUST_IMAGE=docker.io/library/rust:1-bookworm

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY examples examples
COPY tests tests
# A target is named so that the flags are for the program alone, not for the compiler's own helpers.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$target" \
 && install -D "target/$target/release/qpext" /image/qpext

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
EXPOSE 9088
ENTRYPOINT ["/qpext"]
