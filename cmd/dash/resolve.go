package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	// fullTaskID is the length of a UUID: such an id is not looked up.
	fullTaskID = 36
	// completions bounds what the shell offers.
	completions = 50
)

// resolve finds the one id that a user meant. Ids may be shortened to a unique
// beginning. For tasks see taskID.
func resolve(ctx context.Context, what, short string, exact bool, list func() ([]string, error)) (string, error) {
	if err := messages.CheckID(short); err != nil {
		return "", usage(fmt.Sprintf(next.ListIDs, what), "%q is not an id of a %s: %s", short, what, err)
	}
	if exact {
		return short, nil
	}
	ids, err := list()
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range ids {
		if id == short {
			return id, nil
		}
		if strings.HasPrefix(id, short) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return short, nil // the API's own answer says best what is missing
	case 1:
		return found[0], nil
	}
	number := fmt.Sprint(len(found))
	if len(found) > likeThem {
		number += " or more" // the server was asked for so many
	}
	return "", &failure{code: exitConflict, next: next.MoreOfID,
		what: fmt.Sprintf("%q fits %s %ss: %s", short, number, what, strings.Join(found[:min(len(found), likeThem)], ", "))}
}

func gatewayID(ctx context.Context, c *client, short string) (string, error) {
	return resolve(ctx, "gateway", short, false, func() ([]string, error) {
		return ids(ctx, c, "/gateways", nil, 0, func(g api.Gateway) string { return g.Id })
	})
}

func sessionID(ctx context.Context, c *client, tenant, short string) (string, error) {
	return resolve(ctx, "session", short, false, func() ([]string, error) {
		// A full id is the usual case: ask for it before listing thousands.
		var s api.Session
		err := c.call(ctx, get("/sessions/"+url.PathEscape(short), query("tenant", tenant)), &s)
		var f *failure
		if err == nil {
			return []string{short}, nil
		} else if errors.As(err, &f) && f.code != exitNotFound {
			return nil, err
		}
		// The server looks among all of them; a few are enough to tell them apart.
		return ids(ctx, c, "/sessions", query("tenant", tenant, "id_begin", short), likeThem+1, func(s api.Session) string { return s.Id })
	})
}

func ids[T any](ctx context.Context, c *client, path string, q url.Values, limit int, id func(T) string) ([]string, error) {
	items, _, err := listAll[T](ctx, c, path, q, limit)
	out := make([]string, len(items))
	for i, v := range items {
		out[i] = id(v)
	}
	return out, err
}

// complete offers live ids to the shell. What goes wrong there is not said: a
// completion that prints would garble the line being typed.
func complete[T any](t *terminal, path string, q url.Values, item func(T) (id, note string)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		c, err := newClient(t)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		items, _, err := listAll[T](cmd.Context(), c, path, q, 1000)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, v := range items {
			id, note := item(v)
			if strings.HasPrefix(id, prefix) && len(out) < completions {
				out = append(out, cobra.CompletionWithDesc(id, oneLine(note)))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTasks offers those that the verb can act on, which the server chooses.
func completeTasks(t *terminal, among actsOn) cobra.CompletionFunc {
	return complete(t, "/tasks", query("state", strings.Join(among.states, ",")), func(v api.Task) (string, string) { return v.Id, string(v.State) + " " + string(v.Priority) })
}

func completeGateways(t *terminal) cobra.CompletionFunc {
	return complete(t, "/gateways", nil, func(v api.Gateway) (string, string) { return v.Id, string(v.State) })
}

func completeSessions(t *terminal) cobra.CompletionFunc {
	return complete(t, "/sessions", nil, func(v api.Session) (string, string) { return v.Id, string(v.State) })
}

func completePools(t *terminal) cobra.CompletionFunc {
	return complete(t, "/pools", nil, func(v api.Pool) (string, string) { return v.Id, "pool" })
}

// completeFlags attaches completions to flags; the only error is a flag that
// does not exist, which the commands' test would show.
func completeFlags(c *cobra.Command, by map[string]cobra.CompletionFunc) {
	for name, f := range by {
		_ = c.RegisterFlagCompletionFunc(name, f)
	}
}
