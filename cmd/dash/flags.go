package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// checkFlags refuses values that would silently mean something else: an empty
// text (`--session "$UNSET"`) would drop the filter, a zero the default, and a
// negative number all. A flag whose help says what its empty or zero value
// means may have it.
func checkFlags(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if why := senseless(f); why != "" && err == nil {
			err = usage(fmt.Sprintf(next.LeaveFlagOut, f.Name), "--%s %s", f.Name, why)
		}
	})
	return err
}

func senseless(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "string":
		if f.Value.String() == "" && !strings.Contains(f.Usage, "empty") && f.Name != "message" {
			return "is empty"
		}
	case "stringSlice", "stringArray":
		all := f.Value.(pflag.SliceValue).GetSlice()
		if (len(all) == 0 || slices.Contains(all, "")) && !strings.Contains(f.Usage, "empty") {
			return "is empty"
		}
	case "int", "int32", "int64":
		n, err := strconv.ParseInt(f.Value.String(), 10, 64)
		return notPositive(f, err == nil && n < 0, err == nil && n == 0)
	case "duration":
		d, err := time.ParseDuration(f.Value.String())
		return notPositive(f, err == nil && d < 0, err == nil && d == 0)
	}
	return ""
}

func notPositive(f *pflag.Flag, negative, zero bool) string {
	switch {
	case negative:
		return f.Value.String() + " is negative"
	case zero && !strings.Contains(f.Usage, "0: ") && !strings.Contains(f.Usage, "0 for"):
		return f.Value.String() + " is no value that it can have"
	}
	return ""
}

// kindsOfFlags are the types of flags as people call them.
var kindsOfFlags = map[string]string{
	"int": "a whole number", "int32": "a whole number", "int64": "a whole number", "bool": "true or false",
	"duration": "a duration such as 90s, 5m or 2h", "float64": "a number",
}

var badArgument = regexp.MustCompile(`^invalid argument ("(?:[^"\\]|\\.)*") for "(?:-\w, )?--([\w-]+)" flag: `)

// flagWords says what is wrong with a flag without the words of Go.
func flagWords(cmd *cobra.Command, err error) string {
	m := badArgument.FindStringSubmatch(err.Error())
	if m == nil {
		return err.Error()
	}
	f := cmd.Flags().Lookup(m[2])
	if f == nil || kindsOfFlags[f.Value.Type()] == "" {
		return err.Error()
	}
	return fmt.Sprintf("--%s %s is not %s", m[2], m[1], kindsOfFlags[f.Value.Type()])
}

// inFlags puts an error of the API, which names fields of a body, into the
// words of the command: its flags.
func inFlags(cmd *cobra.Command, f *failure) {
	for i, field := range f.fields {
		name := flagOfField(cmd, field.Pointer)
		if name == "" {
			continue
		}
		rest, ok := strings.CutPrefix(f.what, field.Pointer)
		if ok && strings.HasPrefix(field.Detail, "an ") {
			rest = ":" + rest // a rule of its own, such as that for ids
		}
		if ok {
			f.what = name + rest
		}
		f.fields[i] = messages.FieldError{Pointer: name, Detail: field.Detail}
	}
}

// flagOfField is the flag that a field of a body or a query comes from, or "".
func flagOfField(cmd *cobra.Command, pointer string) string {
	pointer, ofQuery := strings.CutPrefix(pointer, "query:")
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := len(parts) - 1; i >= 0; i-- {
		base := strings.ReplaceAll(parts[i], "_", "-")
		for _, name := range []string{base, strings.TrimSuffix(base, "-seconds"), strings.TrimSuffix(base, "s"), strings.TrimSuffix(base, "ies") + "y", base + "-file"} {
			if cmd.Flags().Lookup(name) != nil {
				return "--" + name
			}
		}
	}
	if len(parts) == 1 && !ofQuery && strings.Contains(cmd.Use, " ") { // an argument, such as ID or EMAIL
		return "the " + parts[0]
	}
	return ""
}

// wordsOf turns the error of a command into its own words.
func wordsOf(cmd *cobra.Command, err error) {
	var f *failure
	if cmd != nil && errors.As(err, &f) && len(f.fields) > 0 {
		inFlags(cmd, f)
	}
}
