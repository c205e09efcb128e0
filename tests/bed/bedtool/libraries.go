package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// glibc is what nearly every dynamic program of this machine needs. The nss modules are opened by name when a
// host name or user is looked up, so no program lists them: without them DNS fails although the program starts.
var glibc = []string{
	"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2",
	"libnss_dns.so.2", "libnss_files.so.2",
}

// skeleton holds the small files that programs expect in any root. hosts and resolv.conf are the kubelet's.
var skeleton = map[string]string{
	"/etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
	"/etc/group":         "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}

// libraryDirs are searched in order; they are also where the dynamic linker of this distribution looks by itself.
func libraryDirs() []string {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}

// addBase fills the layer that all images share: skeleton, glibc and its linker. The linker is found by asking
// which one this machine's shell was linked for.
func addBase(base *layer) error {
	for dest, text := range skeleton {
		base.addBytes(dest, []byte(text), 0o644)
	}
	base.addDir("/tmp", 0o1777)
	base.addDir("/home/nonroot", 0o755)
	for _, name := range glibc {
		file, err := findLibrary(name, nil)
		if err != nil {
			return err
		}
		if err := base.addTree(file, file); err != nil {
			return err
		}
	}
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		return err
	}
	linker, _, _, err := dynamic(shell)
	if err != nil || linker == "" {
		return fmt.Errorf("/bin/sh names no dynamic linker (%v)", err)
	}
	return base.addTree(linker, linker)
}

// addLibraries adds to own every shared library that its programs need, directly or not, and that base lacks.
func addLibraries(own, base *layer) error {
	type work struct {
		name string
		data []byte
	}
	var queue []work
	for _, p := range own.paths() {
		queue = append(queue, work{p, own.entries[p].data})
	}
	for len(queue) > 0 {
		program := queue[0]
		queue = queue[1:]
		_, needed, runPaths, err := dynamic(program.data)
		if err != nil {
			return fmt.Errorf("%s: %w", program.name, err)
		}
		for _, name := range needed {
			file, err := findLibrary(name, runPaths)
			if err != nil {
				return fmt.Errorf("%s needs %s: %w", program.name, name, err)
			}
			if _, ok := base.entries[file]; ok {
				continue
			}
			if _, ok := own.entries[file]; ok {
				continue
			}
			if err := own.addTree(file, file); err != nil {
				return err
			}
			queue = append(queue, work{file, own.entries[file].data})
		}
	}
	return nil
}

// dynamic reads from an ELF file its dynamic linker, the libraries it needs and where it says to look for them.
// For anything but an ELF file all three are empty.
func dynamic(data []byte) (linker string, needed, runPaths []string, err error) {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return "", nil, nil, nil
	}
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return "", nil, nil, err
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			text := make([]byte, segment.Filesz)
			if _, err := segment.ReadAt(text, 0); err != nil {
				return "", nil, nil, err
			}
			linker = strings.TrimRight(string(text), "\x00")
		}
	}
	if needed, err = file.ImportedLibraries(); err != nil {
		if errors.Is(err, elf.ErrNoSymbols) {
			return linker, nil, nil, nil
		}
		return "", nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := file.DynString(tag)
		if err != nil {
			continue
		}
		for _, value := range values {
			for _, dir := range strings.Split(value, ":") {
				if path.IsAbs(dir) {
					runPaths = append(runPaths, dir)
				}
			}
		}
	}
	return linker, needed, runPaths, nil
}

func findLibrary(name string, runPaths []string) (string, error) {
	dirs := append(append([]string{}, runPaths...), libraryDirs()...)
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("library %s not found in %s", name, strings.Join(dirs, " "))
}
