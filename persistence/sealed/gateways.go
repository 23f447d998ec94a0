package sealed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// configKey is the only key of a managed gateway's stored configuration.
const configKey = "sealed"

// Gateways puts itself in front of an engine's repository of gateways: what an
// engine writes, its journals, dumps and archives hold, is sealed.
func Gateways(under persistence.Gateways, keys *Keys) *Repository {
	return &Repository{under: under, keys: keys}
}

// Repository implements persistence.Gateways.
type Repository struct {
	under persistence.Gateways
	keys  *Keys
}

// GatewayError: the secrets of a gateway cannot be opened.
type GatewayError struct {
	Gateway string
	Err     error
}

func (e *GatewayError) Error() string {
	return "the secrets of gateway " + e.Gateway + " cannot be opened: " + e.Err.Error()
}

func (e *GatewayError) Unwrap() error { return e.Err }

// Create implements persistence.Gateways.
func (r *Repository) Create(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	return r.write(ctx, g, r.under.Create)
}

// Update implements persistence.Gateways.
func (r *Repository) Update(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	return r.write(ctx, g, r.under.Update)
}

func (r *Repository) write(ctx context.Context, g messages.Gateway, to func(context.Context, messages.Gateway) (messages.Gateway, error)) (messages.Gateway, error) {
	shut, err := r.transform(g, r.keys.seal, r.keys.sealConfig)
	if err != nil {
		return messages.Gateway{}, &messages.Error{Code: messages.CodeInvalid, Message: "the secrets of gateway " + g.ID + " cannot be stored: " + err.Error()}
	}
	stored, err := to(ctx, shut)
	if err != nil {
		return stored, err
	}
	return r.opened(stored)
}

// Get implements persistence.Gateways.
func (r *Repository) Get(ctx context.Context, id string) (messages.Gateway, error) {
	g, err := r.under.Get(ctx, id)
	if err != nil {
		return g, err
	}
	return r.opened(g)
}

// List implements persistence.Gateways.
func (r *Repository) List(ctx context.Context) ([]messages.Gateway, error) {
	return r.all(r.under.List(ctx))
}

// Page implements persistence.Gateways.
func (r *Repository) Page(ctx context.Context, tenant, after string, limit int) ([]messages.Gateway, error) {
	return r.all(r.under.Page(ctx, tenant, after, limit))
}

func (r *Repository) all(rows []messages.Gateway, err error) ([]messages.Gateway, error) {
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i], err = r.opened(rows[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Delete implements persistence.Gateways. It opens nothing: a gateway whose key
// is gone can be removed.
func (r *Repository) Delete(ctx context.Context, id string) error { return r.under.Delete(ctx, id) }

func (r *Repository) opened(g messages.Gateway) (messages.Gateway, error) {
	clear, err := r.transform(g, r.keys.unseal, r.keys.openConfig)
	if err != nil {
		return messages.Gateway{}, &GatewayError{Gateway: g.ID, Err: err}
	}
	return clear, nil
}

// transform changes every secret of a copy of g: the token, the values of the
// environment and the configuration.
func (r *Repository) transform(g messages.Gateway, text func(text, place string) (string, error), config func(c map[string]any, place string) (map[string]any, error)) (messages.Gateway, error) {
	token, err := text(g.Token.Reveal(), place(&g, "token"))
	if err != nil {
		return g, err
	}
	g.Token = messages.Secret(token)
	if g.Managed == nil {
		return g, nil
	}
	m := *g.Managed
	m.Env = maps.Clone(m.Env)
	for name, v := range m.Env {
		if m.Env[name], err = text(v, place(&g, "env", name)); err != nil {
			return g, err
		}
	}
	if m.Config, err = config(m.Config, place(&g, "config")); err != nil {
		return g, err
	}
	g.Managed = &m
	return g, nil
}

// place is what a sealed text is bound to. Neither tenants nor ids hold a bar.
func place(g *messages.Gateway, what ...string) string {
	return g.Tenant + "|" + g.ID + "|" + strings.Join(what, "|")
}

func (k *Keys) sealConfig(c map[string]any, place string) (map[string]any, error) {
	if _, forged := sealedConfig(c); forged && !k.Seals() {
		return nil, errPrefix
	}
	if len(c) == 0 || !k.Seals() {
		return c, nil
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	text, err := k.seal(string(raw), place)
	return map[string]any{configKey: text}, err
}

func (k *Keys) openConfig(c map[string]any, place string) (map[string]any, error) {
	text, is := sealedConfig(c)
	if !is {
		return c, nil
	}
	plain, err := k.unseal(text, place)
	if err != nil || plain == "" { // of a lost key
		return nil, err
	}
	var open map[string]any
	if err := json.Unmarshal([]byte(plain), &open); err != nil {
		return nil, ErrTampered
	}
	return open, nil
}

func sealedConfig(c map[string]any) (string, bool) {
	text, is := c[configKey].(string)
	return text, is && len(c) == 1 && strings.HasPrefix(text, prefix)
}

// stale says whether a stored row is other than a write would make it now.
func (r *Repository) stale(g *messages.Gateway) bool {
	if !r.keys.current(g.Token.Reveal()) {
		return true
	}
	if g.Managed == nil {
		return false
	}
	for _, v := range g.Managed.Env {
		if !r.keys.current(v) {
			return true
		}
	}
	text, is := sealedConfig(g.Managed.Config)
	return is && !r.keys.current(text) || !is && len(g.Managed.Config) > 0 && r.keys.Seals()
}

// Check opens every row; a GatewayError names the first that does not open.
func (r *Repository) Check(ctx context.Context) error {
	_, err := r.List(ctx)
	return err
}

// Rewrite seals every row anew that is in the clear or sealed with another key
// than the first, and says how many. A row that changes meanwhile is read again.
func (r *Repository) Rewrite(ctx context.Context) (n int, err error) {
	rows, err := r.under.List(ctx)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		changed, err := r.rewrite(ctx, rows[i])
		if err != nil {
			return n, fmt.Errorf("seal gateway %s: %w", rows[i].ID, err)
		}
		n += changed
	}
	return n, nil
}

func (r *Repository) rewrite(ctx context.Context, g messages.Gateway) (int, error) {
	for r.stale(&g) {
		clear, err := r.opened(g)
		if err != nil {
			return 0, err
		}
		_, err = r.Update(ctx, clear)
		if err == nil {
			return 1, nil
		}
		if errors.Is(err, persistence.ErrVersion) {
			g, err = r.under.Get(ctx, g.ID)
		}
		if errors.Is(err, persistence.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}
