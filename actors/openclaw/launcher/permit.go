package launcher

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Refusal is one thing that a gateway asks for and this node does not do.
type Refusal struct {
	Field    []string // of the gateway's process: command, state_dir, or env and a name
	Reason   string
	NextStep string
}

// Refusals are what this node's operator does not permit of m, none for all
// well. Ensure and Rewrite ask again: a configuration may come from another
// node, an older release or an archive.
func (l *Launcher) Refusals(m messages.Managed) (all []Refusal) {
	if !l.commandPermitted(m.Command) {
		all = append(all, Refusal{[]string{"command"}, "the command is neither the node's own nor, as a whole, one of its --managed-commands", next.PermitCommand})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Env)) {
		if !envPermitted(name) {
			all = append(all, Refusal{[]string{"env", name}, fmt.Sprintf("the variable %.100q is none of those that a gateway may be given: %s", name, EnvNames), next.LeaveVariableOut})
		}
	}
	if r := l.folderRefused(m.StateDir); r != nil {
		all = append(all, *r)
	}
	return all
}

// err is the failed start that a refusal is.
func (r Refusal) err() error { return permanent(r.NextStep, "%s", r.Reason) }

func (l *Launcher) commandPermitted(own []string) bool {
	return len(own) == 0 || slices.Equal(own, l.cfg.Command) ||
		slices.ContainsFunc(l.cfg.Commands, func(c []string) bool { return slices.Equal(own, c) })
}

// EnvNames says which variables a gateway may be given: credentials and addresses of
// providers. Others, such as LD_PRELOAD, NODE_OPTIONS, PATH and most of
// OpenClaw's own, decide what code a program loads and where it keeps its files.
const EnvNames = "*_API_KEY, *_TOKEN, *_BASE_URL (but none that begins with OPENCLAW_ or DASH_), AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, " +
	"AWS_DEFAULT_REGION, GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_LOCATION, HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY (also in small letters), UV_THREADPOOL_SIZE, DASH_SIM_*"

var (
	namedEnv = regexp.MustCompile(`^(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|REGION|DEFAULT_REGION)|GOOGLE_CLOUD_(PROJECT|LOCATION)|` +
		`(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy|UV_THREADPOOL_SIZE|DASH_SIM_[A-Z_]+)$`)
	providerEnv = regexp.MustCompile(`^[A-Z][A-Z0-9_]*_(API_KEY|TOKEN|BASE_URL)$`)
)

func envPermitted(name string) bool {
	return namedEnv.MatchString(name) ||
		providerEnv.MatchString(name) && !strings.HasPrefix(name, "OPENCLAW_") && !strings.HasPrefix(name, "DASH_")
}

// folderRefused: in a folder of Dash's own, or above it, a gateway and the
// programs of its agents would write over what Dash keeps there.
func (l *Launcher) folderRefused(own string) *Refusal {
	refused := func(format string, args ...any) *Refusal {
		return &Refusal{[]string{"state_dir"}, fmt.Sprintf(format, args...), next.FolderApart}
	}
	if own == "" {
		return nil
	}
	if !filepath.IsAbs(own) || filepath.Clean(own) != own {
		return refused("the state folder %q is not an absolute path in its shortest form", own)
	}
	real := resolved(own)
	for _, kept := range append([]string{l.cfg.Dir}, l.cfg.Reserved...) {
		if k := resolved(kept); within(real, k) || within(k, real) {
			return refused("the state folder %s is in, or above, %s, which is Dash's own", own, kept)
		}
	}
	return nil
}

// resolved is path without symbolic links, as far as it exists.
func resolved(path string) string {
	for dir, rest := path, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return path
		}
	}
}

// within reports whether path is dir or lies in it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
