package main

import (
	_ "github.com/BurntSushi/toml"
	_ "github.com/klauspost/compress/gzip"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/opencontainers/go-digest"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/rootless-containers/rootlesskit/v3/pkg/network/pasta"
	_ "github.com/rootless-containers/rootlesskit/v3/pkg/network/slirp4netns"
	_ "github.com/urfave/cli/v2"
	_ "go.podman.io/image/v5/docker"
	_ "go.podman.io/image/v5/docker/archive"
	_ "go.podman.io/image/v5/oci/archive"
	_ "go.podman.io/image/v5/oci/layout"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
)

func main() {}
