package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of archives in a folder: dash-<series>-<time>.backup.zst, with .age at
// the end of one that is encrypted. Times sort as text.
const (
	namePrefix  = "dash-"
	nameTime    = "20060102T150405Z"
	nameSuffix  = ".backup.zst"
	sealedAfter = ".age"
)

// abandonedAfter is how old a file under a temporary name must be before Prune
// takes it for what a killed process left behind.
const abandonedAfter = 24 * time.Hour

// Name is the file name of an archive of a series (a node's name) made at a time.
func Name(series string, at time.Time, sealed bool) string {
	name := namePrefix + series + "-" + at.UTC().Format(nameTime) + nameSuffix
	if sealed {
		name += sealedAfter
	}
	return name
}

// Entry is an archive in a folder.
type Entry struct {
	Path string
	At   time.Time // when the backup was begun, by its name
}

// List returns the archives of a series, newest first. A folder that is not
// there has none.
func List(dir, series string) ([]Entry, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var list []Entry
	for _, f := range files {
		if at, ok := parseName(strings.TrimSuffix(f.Name(), sealedAfter), series); ok && f.Type().IsRegular() {
			list = append(list, Entry{filepath.Join(dir, f.Name()), at})
		}
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return strings.Compare(b.Path, a.Path)
	})
	return list, nil
}

func parseName(name, series string) (time.Time, bool) {
	rest, ok := strings.CutPrefix(name, namePrefix+series+"-")
	if !ok {
		return time.Time{}, false
	}
	if rest, ok = strings.CutSuffix(rest, nameSuffix); !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(nameTime, rest)
	return at, err == nil
}

// Prune removes all archives of a series but the newest keep, and what killed
// backups of it left behind. What has an archive's name was verified when it
// was made (Create), so the newest keep are the newest verified ones.
func Prune(dir, series string, keep int) (removed []string, err error) {
	list, err := List(dir, series)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range list[min(max(keep, 1), len(list)):] {
		if err := os.Remove(e.Path); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, e.Path)
	}
	return removed, errors.Join(append(errs, removeAbandoned(dir, series))...)
}

func removeAbandoned(dir, series string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		name, isPartial := strings.CutSuffix(f.Name(), partial)
		if _, ours := parseName(strings.TrimSuffix(name, sealedAfter), series); !isPartial || !ours {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > abandonedAfter {
			errs = append(errs, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(errs...)
}
