package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

const imageUsage = `usage: bedtool image [--user UID[:GID]] [--env NAME=VALUE]... [--workdir DIR] [--cmd ARG]... OUT.tar REF ENTRYPOINT FILE...
FILE is SOURCE (put at /NAME) or DEST=SOURCE; a folder goes in with all below it`

// repeated is a flag that may be given more than once.
type repeated []string

func (r *repeated) String() string         { return strings.Join(*r, " ") }
func (r *repeated) Set(value string) error { *r = append(*r, value); return nil }

// image writes an OCI archive that containerd imports, from files of this machine. Programs bring the shared
// libraries they were linked with; what every image has in common is a layer of its own, byte for byte the same
// in each, so that containerd keeps it once.
func image(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, imageUsage) }
	user := flags.String("user", "65532:65532", "numeric user and group to run as")
	workdir := flags.String("workdir", "/", "working directory")
	var env, cmd repeated
	flags.Var(&env, "env", "environment variable NAME=VALUE")
	flags.Var(&cmd, "cmd", "default argument after the entry point")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 4 {
		return fmt.Errorf("%s", imageUsage)
	}
	out, ref, entrypoint := flags.Arg(0), flags.Arg(1), flags.Arg(2)

	own := newLayer()
	for _, file := range flags.Args()[3:] {
		dest, source, named := strings.Cut(file, "=")
		if !named {
			source, dest = file, "/"+filepath.Base(file)
		}
		if err := own.addTree(source, dest); err != nil {
			return fmt.Errorf("file %q: %w", file, err)
		}
	}
	if _, ok := own.entries[path.Clean(entrypoint)]; !ok {
		return fmt.Errorf("entry point %q is not among the files; there are: %s", entrypoint, strings.Join(own.paths(), " "))
	}
	base := newLayer()
	if err := addBase(base); err != nil {
		return err
	}
	if err := addLibraries(own, base); err != nil {
		return err
	}
	config := map[string]any{
		"Entrypoint": []string{entrypoint},
		"User":       *user,
		"WorkingDir": *workdir,
		"Env":        append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"}, env...),
	}
	if len(cmd) > 0 {
		config["Cmd"] = []string(cmd)
	}
	return writeArchive(out, ref, config, []*layer{base, own})
}

// writeArchive puts layers, config, manifest and index into one tar file in the OCI image layout.
func writeArchive(out, ref string, config map[string]any, layers []*layer) error {
	archive := newLayer()
	blob := func(data []byte) string {
		digest := sha256Hex(data)
		archive.addBytes("/blobs/sha256/"+digest, data, 0o644)
		return "sha256:" + digest
	}
	var diffIDs []string
	var descriptors []map[string]any
	for _, l := range layers {
		data, err := l.tar()
		if err != nil {
			return err
		}
		digest := blob(data)
		diffIDs = append(diffIDs, digest)
		descriptors = append(descriptors, descriptor("application/vnd.oci.image.layer.v1.tar", digest, len(data)))
	}
	configJSON, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        descriptor("application/vnd.oci.image.config.v1+json", blob(configJSON), len(configJSON)),
		"layers":        descriptors,
	})
	if err != nil {
		return err
	}
	entry := descriptor("application/vnd.oci.image.manifest.v1+json", blob(manifest), len(manifest))
	entry["platform"] = map[string]string{"architecture": runtime.GOARCH, "os": "linux"}
	entry["annotations"] = map[string]string{"io.containerd.image.name": ref}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{entry}})
	if err != nil {
		return err
	}
	archive.addBytes("/index.json", index, 0o644)
	archive.addBytes("/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	data, err := archive.tar()
	if err != nil {
		return err
	}
	// Written beside and renamed, so that a reader never sees half an archive.
	partial := out + ".partial"
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, out)
}

func descriptor(mediaType, digest string, size int) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": size}
}

func (l *layer) paths() []string {
	paths := make([]string, 0, len(l.entries))
	for p := range l.entries {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	return paths
}
