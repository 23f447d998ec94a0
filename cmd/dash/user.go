package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

func userCommand(t *terminal) *cobra.Command {
	return noun("user", "Make users and change what they may do", userCreateCommand(t), userListCommand(t), userSetCommand(t), userDeleteCommand(t))
}

var userColumns = []column[api.User]{
	{name: "ID", value: func(v api.User) string { return v.Id }},
	{name: "EMAIL", value: func(v api.User) string { return v.Email }},
	{name: "ROLE", value: func(v api.User) string { return v.Role }},
	{name: "TENANT", value: func(v api.User) string { return orAll(v.Tenant) }},
	{name: "CREATED", value: func(v api.User) string { return when(&v.CreatedAt) }},
	{name: "VERSION", wide: true, value: func(v api.User) string { return fmt.Sprint(v.Version) }},
}

var roleNames = []string{"viewer", "user", "operator", "admin"}

// userFlags are those of create and set.
type userFlags struct {
	role, tenant, passwordFile string
	all, ask                   bool
}

func (f *userFlags) add(t *terminal, c *cobra.Command) {
	c.Flags().StringVar(&f.role, "role", "", "what the user may do: "+strings.Join(roleNames, "|"))
	c.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password; - reads stdin")
	accountTenantFlags(t, c, &f.tenant, &f.all)
	completeFlags(c, map[string]cobra.CompletionFunc{"role": cobra.FixedCompletions(roleNames, cobra.ShellCompDirectiveNoFileComp)})
}

// password reads the password from its file, or asks for it. It is never an
// argument, which other users of the machine could see.
func (f *userFlags) password(ctx context.Context, t *terminal) (string, error) {
	if f.passwordFile != "" {
		return secretFile(t, "password", f.passwordFile)
	}
	in, ok := t.in.(*os.File)
	if !t.asks || !ok {
		return "", usage(next.GivePasswordFile, "a password is needed, and there is no terminal to ask on")
	}
	var typed [2]string
	for i, question := range []string{"Password: ", "Again: "} {
		fmt.Fprint(t.err, question)
		b, err := readPassword(ctx, int(in.Fd()))
		fmt.Fprintln(t.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", usage(next.SamePassword, "the two passwords differ")
	}
	return typed[0], nil
}

// readPassword reads a line without showing it. The read cannot be interrupted:
// Ctrl-C leaves it behind, gives the terminal back its echo, and the process ends.
func readPassword(ctx context.Context, fd int) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		read <- line{b, err}
	}()
	select {
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(fd, before))
	case l := <-read:
		return l.text, l.err
	}
}

// secretFile reads a secret that stands alone in a file.
func secretFile(t *terminal, what, file string) (string, error) {
	raw, err := readFile(t, file, maxToken)
	if err != nil {
		return "", usage(fmt.Sprintf(next.CheckFileFlag, what), "the %s file %s cannot be read: %v", what, file, err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if strings.TrimSpace(secret) == "" || len(raw) > maxToken {
		return "", usage(fmt.Sprintf(next.AloneInFile, what), "the %s is empty or longer than %d bytes", what, maxToken)
	}
	return secret, nil
}

func userCreateCommand(t *terminal) *cobra.Command {
	var f userFlags
	c := verb(t, &cobra.Command{
		Use: "create EMAIL", Short: "Make a user", Args: exactArgs("an email address"),
		Long:    "Asks for the password, unless it is in a file. It has 12 to 72 bytes. Roles: viewer may\nread, user may submit tasks, operator may also change gateways and pools, admin everything.",
		Example: "  dash user create ann@example.com --role operator\n  dash user create ci@example.com --tenant acme --password-file password.txt",
	}, userColumns, func(ctx context.Context, c *client, o output, args []string) error {
		password, err := f.password(ctx, t)
		if err != nil {
			return err
		}
		body := api.CreateUser{Email: args[0], Password: password, Role: opt(api.Role(f.role)), Tenant: opt(f.tenant), AllTenants: opt(f.all)}
		var u api.User
		if err := c.call(ctx, post("/users", body), &u); err != nil {
			return err
		}
		return printOne(t, o, userColumns, u)
	})
	f.add(t, c)
	return c
}

func userListCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{Use: "list", Short: "List users", Example: "  dash user list\n  dash user list -o json"},
		userColumns, func(ctx context.Context, c *client, o output, _ []string) error {
			items, _, err := listAll[api.User](ctx, c, "/users", nil, 0)
			if err != nil {
				return err
			}
			return printList(t, o, userColumns, items)
		})
}

// findUser takes an email or a unique beginning of an id.
func findUser(ctx context.Context, c *client, name string) (api.User, error) {
	var u api.User
	if strings.Contains(name, "@") {
		var p page[api.User]
		if err := c.call(ctx, get("/users", query("email", name)), &p); err != nil {
			return u, err
		}
		if len(p.Items) == 0 {
			return u, &failure{code: exitNotFound, what: "there is no user " + name, next: next.ListUsers}
		}
		return p.Items[0], nil
	}
	id, err := resolve(ctx, "user", name, len(name) >= fullTaskID, func() ([]string, error) {
		return ids(ctx, c, "/users", nil, 0, func(u api.User) string { return u.Id })
	})
	if err != nil {
		return u, err
	}
	return u, c.call(ctx, get(userPath(id), nil), &u)
}

func userPath(id string) string { return "/users/" + url.PathEscape(id) }

func completeUsers(t *terminal) cobra.CompletionFunc {
	return complete(t, "/users", nil, func(v api.User) (string, string) { return v.Email, v.Role })
}

func userSetCommand(t *terminal) *cobra.Command {
	var f userFlags
	c := verb(t, &cobra.Command{
		Use: "set EMAIL|ID", Short: "Change a user's role, tenant or password", Args: exactArgs("an email or a user id"), ValidArgsFunction: completeUsers(t),
		Long:    "Only what is given changes. Another password ends all logins of the user.",
		Example: "  dash user set ann@example.com --role admin --all-tenants\n  dash user set ann@example.com --ask-password",
	}, userColumns, func(ctx context.Context, c *client, o output, args []string) error {
		body := api.UpdateUser{Role: opt(api.Role(f.role)), Tenant: opt(f.tenant), AllTenants: opt(f.all)}
		if f.ask || f.passwordFile != "" {
			password, err := f.password(ctx, t)
			if err != nil {
				return err
			}
			body.Password = &password
		}
		if body == (api.UpdateUser{}) {
			return usage(next.UserSetHelp, "nothing to change is given")
		}
		u, err := findUser(ctx, c, args[0])
		if err != nil {
			return err
		}
		if err := c.call(ctx, request{method: http.MethodPatch, path: userPath(u.Id), body: body, header: post("", nil).header}, &u); err != nil {
			return err
		}
		return printOne(t, o, userColumns, u)
	})
	f.add(t, c)
	c.Flags().BoolVar(&f.ask, "ask-password", false, "ask for a new password")
	c.MarkFlagsMutuallyExclusive("ask-password", "password-file")
	return c
}

func userDeleteCommand(t *terminal) *cobra.Command {
	var yes, dryRun bool
	c := verb(t, &cobra.Command{
		Use: "delete EMAIL|ID", Short: "Remove a user and all logins", Args: exactArgs("an email or a user id"), ValidArgsFunction: completeUsers(t),
		Example: "  dash user delete ann@example.com\n  dash user delete ann@example.com --yes",
	}, userColumns, func(ctx context.Context, c *client, _ output, args []string) error {
		u, err := findUser(ctx, c, args[0])
		if err != nil {
			return err
		}
		plan := fmt.Sprintf("user %s (%s, tenant %s) will be removed with all logins", u.Email, u.Role, orAll(u.Tenant))
		if dryRun {
			return write(t, clean(plan)+"\n")
		}
		if err := confirm(ctx, t, yes, plan, u.Email); err != nil {
			return err
		}
		if err := c.call(ctx, request{method: http.MethodDelete, path: userPath(u.Id), header: post("", nil).header}, nil); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "user %s is removed\n", clean(u.Email))
		return nil
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen")
	return c
}
