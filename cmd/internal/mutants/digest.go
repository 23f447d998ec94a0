package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// prepare learns what the tests are built of, once for those that are run alike.
func (r *runner) prepare(ctx context.Context, chosen []mutant) error {
	r.groups = map[string]*group{}
	for i := range chosen {
		m := &chosen[i]
		if r.groups[m.tests()] != nil {
			continue
		}
		g := &group{}
		var err error
		if g.source, g.flags, err = r.source(ctx, m.Test); err != nil {
			return err
		}
		g.passes = sync.OnceValue(func() error { return r.passes(ctx, m) })
		r.groups[m.tests()] = g
	}
	return nil
}

// group is what mutants with the same tests have in common.
type group struct {
	source string       // digest of what the tests are built of
	flags  []string     // of the tests themselves
	passes func() error // nil: they pass without a mutant
}

// passes runs tests without any mutant: one that fails anyway notices nothing.
func (r *runner) passes(ctx context.Context, m *mutant) error {
	v, err := r.test(ctx, m)
	if err == nil && v.result != survived {
		v, err = r.test(ctx, m) // a busy machine may be to blame
	}
	if err != nil {
		return err
	}
	if v.result != survived {
		r.say("%s", v.output)
		return fmt.Errorf("without any mutant %q fails in %s", "go test "+m.tests(), v.by)
	}
	r.say("%-10s  %s\n", "passes", "go test "+m.tests()+", without a mutant")
	return nil
}

// rapid is the library of property tests.
const rapid = "pgregory.net/rapid"

// source is a digest of all files of ours that the tests are built of or may read.
func (r *runner) source(ctx context.Context, test []string) (sum string, flags []string, err error) {
	packages := slices.DeleteFunc(slices.Clone(test), func(s string) bool { return !strings.HasPrefix(s, "./") })
	args := append([]string{"list", "-deps", "-test", "-f", `{{if eq .ImportPath "` + rapid + `"}}{{.ImportPath}}{{end}}{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}`}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	dirs := strings.Fields(string(out))
	if i := slices.Index(dirs, rapid); i >= 0 {
		dirs = slices.Delete(dirs, i, i+1)
		flags = []string{"-rapid.nofailfile"} // it would keep each find in the tree
	}
	slices.Sort(dirs)
	h := sha256.New()
	for _, dir := range slices.Compact(dirs) {
		if err := addFolder(h, dir); err != nil {
			return "", nil, err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), flags, nil
}

// addFolder adds the files of a package, of its testdata and of what it embeds.
func addFolder(h interface{ Write([]byte) (int, error) }, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != dir && hasGo(path) || d.Name() == "rapid" {
				return filepath.SkipDir // a package of its own; what rapid writes about a failure
			}
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err1 := h.Write([]byte(path + "\x00"))
		_, err2 := h.Write(data)
		return errors.Join(err1, err2)
	})
}

func hasGo(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	return err == nil && len(files) > 0
}

// digest names what a result of the mutant is about.
func (r *runner) digest(m *mutant) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%q\x00%s\x00%s", m.File, m.hunks, m.tests(), r.groups[m.tests()].source)
	return hex.EncodeToString(h.Sum(nil)[:12])
}
