package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/messages"
)

// FileFlag names the YAML file; in the environment it is DASH_CONFIG.
const FileFlag = "config"

// EnvPrefix begins the name of every variable that Dash reads.
const EnvPrefix = "DASH_"

// setting ties one field of Config to its public name.
type setting struct {
	key, help string
	index     int
}

// settings lists the fields of Config in the order they are declared in.
func settings() []setting {
	t := reflect.TypeFor[Config]()
	out := make([]setting, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, setting{key: f.Tag.Get("key"), help: f.Tag.Get("help"), index: i})
	}
	return out
}

// EnvName returns the variable of a setting: "data" is DASH_DATA.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// AddFlags declares --config and one flag per setting. The flags show the
// defaults; which of them were given is seen by Load.
func AddFlags(fs *pflag.FlagSet) {
	fs.String(FileFlag, "", "YAML file with settings; keys are the names of these flags")
	def := reflect.ValueOf(Default())
	for _, s := range settings() {
		switch v := def.Field(s.index).Interface().(type) {
		case bool:
			fs.Bool(s.key, v, s.help)
		case int:
			fs.Int(s.key, v, s.help)
		case time.Duration:
			fs.Duration(s.key, v, s.help)
		case []string:
			fs.String(s.key, strings.Join(v, " "), s.help)
		case Commands:
			fs.Var(new(Commands), s.key, s.help)
		case messages.Secret:
			fs.String(s.key, "", s.help) // printed, a Secret's default looks as if there were one
		default:
			fs.String(s.key, fmt.Sprint(v), s.help)
		}
	}
}

// assign parses raw, which is what a file, a variable or a flag gave, into a
// field. Only the error's text may reach a user.
func assign(field reflect.Value, raw any) error {
	text, isText := raw.(string)
	text = strings.TrimSpace(text)
	switch field.Interface().(type) {
	case bool:
		return assignBool(field, raw, text, isText)
	case time.Duration:
		d, err := parseDuration(raw, text, isText)
		if err != nil {
			return err
		}
		field.SetInt(int64(d))
	case int:
		if isText {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%q is not a whole number", text)
			}
			raw = n
		}
		n, ok := raw.(int)
		if !ok {
			return fmt.Errorf("%v is not a whole number", raw)
		}
		field.SetInt(int64(n))
	case []string:
		words, err := parseWords(raw, text, isText)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(words))
	case Commands:
		all, err := parseCommands(raw, text, isText)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(all))
	case messages.Secret, string:
		return assignString(field, raw, text, isText)
	default:
		return fmt.Errorf("settings of type %s are not supported", field.Type())
	}
	return nil
}

func assignBool(field reflect.Value, raw any, text string, isText bool) error {
	if isText {
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		raw = b
	}
	b, ok := raw.(bool)
	if !ok {
		return fmt.Errorf("%v is neither true nor false", raw)
	}
	field.SetBool(b)
	return nil
}

func assignString(field reflect.Value, raw any, text string, isText bool) error {
	if !isText {
		switch raw.(type) {
		case int, bool, float64:
			text = fmt.Sprint(raw)
		default:
			return fmt.Errorf("a text is expected, not %T", raw)
		}
	}
	field.SetString(text)
	return nil
}

// parseDuration accepts what Go prints (1h30m) and plain seconds.
func parseDuration(raw any, text string, isText bool) (time.Duration, error) {
	if !isText {
		text = fmt.Sprint(raw)
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 10m or 1h30m", text)
	}
	return d, nil
}

func parseWords(raw any, text string, isText bool) ([]string, error) {
	if isText {
		return SplitWords(text)
	}
	list, ok := raw.([]any)
	if !ok {
		return nil, fmt.Errorf("a list of texts is expected, not %T", raw)
	}
	words := make([]string, 0, len(list))
	for _, v := range list {
		switch v.(type) {
		case string, int, bool, float64:
			words = append(words, fmt.Sprint(v))
		default:
			return nil, fmt.Errorf("a list of texts is expected, but it holds %T", v)
		}
	}
	return words, nil
}

// KeyFile is where the first API key is written: AdminKeyFile, else admin.key
// in Data.
func (c Config) KeyFile() string {
	if c.AdminKeyFile != "" {
		return c.AdminKeyFile
	}
	return filepath.Join(c.Data, "admin.key")
}

// SecretKeyPath is the file of the keys that seal secrets; empty: there is none.
// No node of a shared store may make a key by itself: the others lack it.
func (c Config) SecretKeyPath() string {
	if c.SecretKeyFile == "" && c.Store == EngineSQLite {
		return filepath.Join(c.Data, "secret.key")
	}
	return c.SecretKeyFile
}
