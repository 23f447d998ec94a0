package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Sources is where Load looks. The zero value of a field leaves that source out.
type Sources struct {
	// Flags were declared by AddFlags and parsed.
	Flags *pflag.FlagSet
	// Environ is in the form of os.Environ.
	Environ []string
}

// Loaded is an effective configuration and where each value came from.
type Loaded struct {
	Config
	// File is the file that was read, empty for none.
	File string
	// Warnings tell of things that were ignored.
	Warnings []string

	origins map[string]string
}

// Effective is one setting as it holds.
type Effective struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"`
	Env    string `json:"env" yaml:"env"`
	Help   string `json:"help" yaml:"help"`
}

// layer is one source of settings, already free of unknown keys.
type layer struct {
	values *koanf.Koanf
	origin func(key string) string
}

// Load merges the sources and validates the result. An error is a
// *messages.Error: it says what is wrong, where it came from and what to do.
func Load(src Sources) (*Loaded, error) {
	l := &Loaded{Config: Default(), origins: map[string]string{}}
	envLayer, path, err := l.environment(src.Environ)
	if err != nil {
		return nil, err
	}
	if src.Flags != nil {
		if f := src.Flags.Lookup(FileFlag); f != nil && f.Changed {
			path = f.Value.String()
		}
	}
	var layers []layer
	if path != "" {
		fileLayer, err := fromFile(path)
		if err != nil {
			return nil, err
		}
		l.File = path
		layers = append(layers, fileLayer)
	}
	layers = append(layers, envLayer)
	if src.Flags != nil {
		flagLayer, err := fromFlags(src.Flags)
		if err != nil {
			return nil, err
		}
		layers = append(layers, flagLayer)
	}
	if err := l.merge(layers); err != nil {
		return nil, err
	}
	l.derive(src.Environ)
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Loaded) merge(layers []layer) error {
	fields := reflect.ValueOf(&l.Config).Elem()
	for _, ly := range layers {
		for _, s := range settings() {
			if !ly.values.Exists(s.key) {
				continue
			}
			if err := assign(fields.Field(s.index), ly.values.Get(s.key)); err != nil {
				return invalid(s.key, fmt.Sprintf("%s: %s (from %s)", s.key, err, ly.origin(s.key)), fmt.Sprintf(next.CorrectValue, s.key, s.help))
			}
			l.origins[s.key] = ly.origin(s.key)
		}
	}
	return nil
}

// derive fills in what depends on --dev or on the host and was not set.
func (l *Loaded) derive(environ []string) {
	if l.Dev {
		if l.origins["sim-gateways"] == "" {
			l.SimGateways, l.origins["sim-gateways"] = devSimGateways, "--dev"
		}
		if l.origins["metrics-public"] == "" {
			l.MetricsPublic, l.origins["metrics-public"] = true, "--dev"
		}
		if l.Data == "" {
			l.origins["data"] = "--dev"
		}
	}
	if l.Data == "" && !l.Dev {
		l.Data = defaultData(environ)
		l.origins["data"] = "default"
	}
	if l.Node == "" {
		l.Node, l.origins["node"] = hostName(), "host"
	}
}

// defaultData is the data folder of a node that is told nothing: stable, so
// that a start from another working folder finds the same fleet.
func defaultData(environ []string) string {
	if d := lookup(environ, "XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "dash")
	}
	if h := lookup(environ, "HOME"); filepath.IsAbs(h) {
		return filepath.Join(h, ".local", "share", "dash")
	}
	return ""
}

// hostName is the host's name made to fit the rules for ids.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || messages.CheckID(name) != nil {
		return "node-1"
	}
	return name
}

func lookup(environ []string, name string) string {
	for _, kv := range slices.Backward(environ) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

func fromFile(path string) (layer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return layer{}, invalid(FileFlag, fmt.Sprintf("the file %s cannot be read: %v", path, cause(err)), next.CheckConfigFlag)
	}
	if info.IsDir() || info.Size() > maxFile {
		return layer{}, invalid(FileFlag, path+" is a folder or larger than 1 MiB", next.PointAtYAML)
	}
	if f, err := os.Open(path); err != nil {
		return layer{}, invalid(FileFlag, fmt.Sprintf("the file %s cannot be read: %v", path, cause(err)), next.CheckConfigFlag)
	} else {
		f.Close() // it was only tried
	}
	raw := koanf.New("\x00") // no nesting: keys may hold any other character
	if err := raw.Load(file.Provider(path), yaml.Parser()); err != nil {
		return layer{}, invalid(FileFlag, fmt.Sprintf("%s is not valid YAML: %v", path, err), next.NameYAML)
	}
	values, names := map[string]any{}, map[string]string{}
	var problems []messages.FieldError
	for _, name := range raw.Keys() {
		top, _, nested := strings.Cut(name, "\x00")
		key := strings.ReplaceAll(top, "_", "-")
		switch {
		case !known(key):
			problems = append(problems, messages.FieldError{Pointer: "/" + top, Detail: "unknown setting" + suggest(key)})
		case nested:
			problems = append(problems, messages.FieldError{Pointer: "/" + top, Detail: "settings are not nested"})
		case names[key] != "":
			problems = append(problems, messages.FieldError{Pointer: "/" + top, Detail: "set twice, also as " + names[key]})
		case raw.Get(name) != nil:
			values[key], names[key] = raw.Get(name), top
		}
	}
	if len(problems) > 0 {
		e := invalid("", path+" holds settings that Dash does not have", next.CorrectSettings)
		e.Fields = problems
		return layer{}, e
	}
	return newLayer(values, func(string) string { return "file " + path })
}

// environment reads DASH_… variables. An empty one counts as not set.
func (l *Loaded) environment(environ []string) (layer, string, error) {
	var path string
	k := koanf.New("\x00")
	provider := env.Provider("\x00", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, EnvPrefix), "_", "-"))
			switch {
			case value == "":
			case key == FileFlag:
				path = value
			case known(key):
				return key, value
			case !foreign(name):
				l.Warnings = append(l.Warnings, name+" is set, but Dash has no such setting"+suggest(key))
			}
			return "", nil
		},
	})
	if err := k.Load(provider, nil); err != nil {
		return layer{}, "", fmt.Errorf("read the environment: %w", err)
	}
	slices.Sort(l.Warnings)
	return layer{values: k, origin: func(key string) string { return "env " + EnvName(key) }}, path, nil
}

// foreign reports variables with our prefix that are not settings of a node:
// those of the client and of the tests, and those that Kubernetes and Docker
// links inject for a service that is called dash.
func foreign(name string) bool {
	switch name {
	case "DASH_URL", "DASH_API_KEY", "DASH_PORT", "DASH_NAME":
		return true
	}
	return strings.HasPrefix(name, "DASH_TEST_") || strings.HasPrefix(name, "DASH_SERVICE_") ||
		strings.HasPrefix(name, "DASH_PORT_") || strings.HasPrefix(name, "DASH_ENV_")
}

func fromFlags(flags *pflag.FlagSet) (layer, error) {
	k := koanf.New("\x00")
	provider := posflag.ProviderWithFlag(flags, "\x00", k, func(f *pflag.Flag) (string, any) {
		if !f.Changed || !known(f.Name) {
			return "", nil
		}
		return f.Name, f.Value.String()
	})
	if err := k.Load(provider, nil); err != nil {
		return layer{}, fmt.Errorf("read the flags: %w", err)
	}
	return layer{values: k, origin: func(key string) string { return "flag --" + key }}, nil
}

func newLayer(values map[string]any, origin func(string) string) (layer, error) {
	k := koanf.New("\x00")
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		return layer{}, fmt.Errorf("merge settings: %w", err)
	}
	return layer{values: k, origin: origin}, nil
}

func known(key string) bool {
	return slices.ContainsFunc(settings(), func(s setting) bool { return s.key == key })
}

// cause drops the operation and path that os errors repeat.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Changed lists the settings that differ, in the order of Config.
func (l *Loaded) Changed(other *Loaded) (keys []string) {
	a, b := reflect.ValueOf(l.Config), reflect.ValueOf(other.Config)
	for _, s := range settings() {
		if !reflect.DeepEqual(a.Field(s.index).Interface(), b.Field(s.index).Interface()) {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// Effective lists all settings in the order of Config. Secrets are masked.
func (l *Loaded) Effective() []Effective {
	fields := reflect.ValueOf(l.Config)
	out := make([]Effective, 0, fields.NumField())
	for _, s := range settings() {
		e := Effective{Key: s.key, Env: EnvName(s.key), Help: s.help, Origin: l.origins[s.key]}
		if e.Origin == "" {
			e.Origin = "default"
		}
		switch v := fields.Field(s.index).Interface().(type) {
		case []string:
			e.Value = strings.Join(v, " ")
		case Commands:
			e.Value = v.String()
		case messages.Secret:
			if !v.Empty() {
				e.Value = v.String()
			}
		default:
			e.Value = fmt.Sprint(v)
		}
		switch {
		case s.key == "data" && l.Data == "":
			e.Value = "(temporary folder)"
		case s.key == "admin-key-file" && l.AdminKeyFile == "" && l.Data != "":
			e.Value = l.KeyFile()
		case s.key == "secret-key-file" && l.Data != "":
			e.Value = l.SecretKeyPath()
		}
		out = append(out, e)
	}
	return out
}
