package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// entry is one file, folder or link of a layer.
type entry struct {
	header *tar.Header
	data   []byte
}

// layer is a set of files by absolute path. Its tar form depends on content alone: sorted, owned by root, no times.
type layer struct {
	entries map[string]entry
}

func newLayer() *layer { return &layer{entries: map[string]entry{}} }

func (l *layer) addDir(dest string, mode int64) {
	l.put(dest, entry{header: &tar.Header{Typeflag: tar.TypeDir, Mode: mode}})
}

func (l *layer) addBytes(dest string, data []byte, mode int64) {
	l.put(dest, entry{&tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}, data})
}

func (l *layer) addLink(dest, target string) {
	l.put(dest, entry{header: &tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}})
}

// put adds an entry and the folders above it.
func (l *layer) put(dest string, e entry) {
	dest = path.Clean("/" + dest)
	l.entries[dest] = e
	for parent := path.Dir(dest); parent != "/"; parent = path.Dir(parent) {
		if _, ok := l.entries[parent]; !ok {
			l.entries[parent] = entry{header: &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}
		}
	}
}

// addTree adds a file, or a folder with all below it. Links inside a folder stay links; the source itself is followed.
func (l *layer) addTree(source, dest string) error {
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	return filepath.WalkDir(real, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(real, file)
		if err != nil {
			return err
		}
		to := path.Join(dest, relative)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			l.addBytes(to, data, int64(info.Mode().Perm()))
		case info.IsDir():
			l.addDir(to, int64(info.Mode().Perm()))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			l.addLink(to, target)
		default:
			return fmt.Errorf("%s is neither a file, a folder nor a link", file)
		}
		return nil
	})
}

func (l *layer) tar() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, p := range l.paths() {
		e := l.entries[p]
		header := *e.header
		header.Name = p[1:]
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
