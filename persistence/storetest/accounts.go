package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func user(id string) persistence.User {
	return persistence.User{User: messages.User{ID: id, Email: id + "@example.com", Role: "admin", Tenant: "default", CreatedAt: messages.Now()}, PasswordHash: []byte("$2a$12$" + id)}
}

func userRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Users
	a, b := user("a"), user("b")
	b.Role, b.Tenant = "", ""
	for _, u := range []*persistence.User{&b, &a} {
		got, err := r.Create(ctx, *u)
		if err != nil {
			t.Fatal(err)
		}
		u.Version = 1
		if u.Role == "" {
			u.Role = "user"
		}
		same(t, got, *u)
	}
	sameEmail := user("c")
	sameEmail.Email = a.Email
	for _, u := range []persistence.User{user("a"), sameEmail} {
		if _, err := r.Create(ctx, u); !errors.Is(err, persistence.ErrExists) {
			t.Errorf("create %s %s twice: %v", u.ID, u.Email, err)
		}
	}
	e.Restart(t)
	r = e.Repositories().Users
	list, err := r.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, list, []persistence.User{a, b})
	got, err := r.ByEmail(ctx, b.Email)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, b)
	userUpdate(t, r, a, b)
	if err := r.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"delete twice": r.Delete(ctx, "a"), "get": second(r.Get(ctx, "a")), "by email": second(r.ByEmail(ctx, a.Email))} {
		if !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func userUpdate(t *testing.T, r persistence.Users, a, b persistence.User) {
	ctx := t.Context()
	changed := a
	changed.Email, changed.Role, changed.Tenant, changed.CreatedAt = "new@example.com", "user", "acme", time.Time{}
	got, err := r.Update(ctx, changed)
	if err != nil {
		t.Fatal(err)
	}
	changed.Version, changed.CreatedAt = 2, a.CreatedAt
	same(t, got, changed)
	if got, err = r.Get(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	same(t, got, changed)
	if _, err := r.Update(ctx, a); !errors.Is(err, persistence.ErrVersion) {
		t.Errorf("update of an old version: %v", err)
	}
	if _, err := r.Update(ctx, persistence.User{User: messages.User{ID: "none", Email: "x", Version: 1}}); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	changed.Email = b.Email
	if _, err := r.Update(ctx, changed); !errors.Is(err, persistence.ErrExists) {
		t.Errorf("update to a taken email: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func login(id, user string, life time.Duration) persistence.LoginSession {
	s := persistence.LoginSession{ID: id, UserID: user, CreatedAt: messages.Now(), ExpiresAt: messages.Now().Add(life)}
	copy(s.TokenHash[:], "token of "+id)
	return s
}

func loginRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().LoginSessions
	for _, id := range []string{"a", "b"} {
		if _, err := e.Repositories().Users.Create(ctx, user(id)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, over, other := login("s1", "a", time.Hour), login("s2", "a", time.Hour), login("s3", "a", -time.Hour), login("s4", "b", time.Hour)
	for _, s := range []persistence.LoginSession{one, two, over, other} {
		if err := r.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	sameToken := login("s5", "a", time.Hour)
	sameToken.TokenHash = one.TokenHash
	for _, s := range []persistence.LoginSession{login("s1", "a", time.Hour), sameToken} {
		if err := r.Create(ctx, s); !errors.Is(err, persistence.ErrExists) {
			t.Errorf("create twice: %v", err)
		}
	}
	if err := r.Create(ctx, login("s6", "nobody", time.Hour)); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("session of nobody: %v", err)
	}
	e.Restart(t)
	r = e.Repositories().LoginSessions
	got, err := r.ByToken(ctx, one.TokenHash)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, one)
	for _, h := range []persistence.TokenHash{over.TokenHash, {}} {
		if _, err := r.ByToken(ctx, h); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("a session that is over or unknown: %v", err)
		}
	}
	list, err := r.List(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, list, []persistence.LoginSession{one, two})
	if n, err := r.Sweep(ctx, 10); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want the one that is over", n, err)
	}
	if err := r.Delete(ctx, "s2"); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "s2"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("delete twice: %v", err)
	}
	if n, err := r.DeleteOf(ctx, "a"); n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if _, err := r.ByToken(ctx, other.TokenHash); err != nil {
		t.Errorf("the session of another user: %v", err)
	}
}

// loginsEnd checks what ends sessions by itself: another password, and the end
// of the user.
func loginsEnd(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories()
	u, err := r.Users.Create(ctx, user("a"))
	if err != nil {
		t.Fatal(err)
	}
	s := login("s1", "a", time.Hour)
	has := func() bool {
		_, err := r.LoginSessions.ByToken(ctx, s.TokenHash)
		if err != nil && !errors.Is(err, persistence.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	create := func() {
		t.Helper()
		if err := r.LoginSessions.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	create()
	u.Role = "user"
	if u, err = r.Users.Update(ctx, u); err != nil || !has() {
		t.Fatalf("a change of role ended a session: %v", err)
	}
	u.PasswordHash = []byte("another")
	if _, err := r.Users.Update(ctx, persistence.User{User: messages.User{ID: "a", Email: "a", Version: 1}, PasswordHash: u.PasswordHash}); err == nil || !has() {
		t.Fatalf("a refused change ended a session: %v", err)
	}
	if _, err = r.Users.Update(ctx, u); err != nil || has() {
		t.Fatalf("the session outlived the password: %v", err)
	}
	create()
	if err := r.Users.Delete(ctx, "a"); err != nil || has() {
		t.Fatalf("the session outlived the user: %v", err)
	}
}

func tenantRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Tenants
	acme := messages.Tenant{ID: "acme", Name: "Acme & Söhne", CreatedAt: messages.Now()}
	got, err := r.Create(ctx, acme)
	if err != nil {
		t.Fatal(err)
	}
	acme.Version = 1
	same(t, got, acme)
	if _, err := r.Create(ctx, acme); !errors.Is(err, persistence.ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	if _, err := r.Create(ctx, messages.Tenant{ID: messages.DefaultTenant}); !errors.Is(err, persistence.ErrExists) {
		t.Errorf("create the default tenant: %v", err)
	}
	e.Restart(t)
	r = e.Repositories().Tenants
	list, err := r.List(ctx)
	if err != nil || len(list) != 2 || list[1].ID != messages.DefaultTenant || list[1].CreatedAt.IsZero() || list[1].Version != 1 {
		t.Fatalf("list %+v, %v", list, err)
	}
	same(t, list[0], acme)
	if got, err = r.Get(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	same(t, got, acme)
	if _, err := r.Get(ctx, "none"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get nothing: %v", err)
	}
}

func keyVersions(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	for _, id := range []string{"a", "b", "c"} {
		if err := r.Create(ctx, key(id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke(ctx, "b", false); err != nil {
		t.Fatal(err)
	}
	if err := r.Touch(ctx, map[string]time.Time{"a": messages.Now()}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Versions(ctx, []string{"a", "b", "gone"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, map[string]int64{"a": 1, "b": 2})
	if got, err = r.Versions(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("versions of nothing: %v, %v", got, err)
	}
}

// keyRace: of many revocations at once each leaves the key revoked, once.
func keyRace(t *testing.T, e Engine) {
	r := e.Repositories().Keys
	if err := r.Create(t.Context(), key("a")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := r.Revoke(t.Context(), "a", false); err != nil {
				t.Errorf("revoke: %v", err)
			}
		})
	}
	wg.Wait()
	k, err := r.Get(t.Context(), "a")
	if err != nil || k.Active || k.Version != 2 {
		t.Errorf("%+v, %v", k, err)
	}
}

// userRace: of many creations of one email exactly one succeeds.
func userRace(t *testing.T, e Engine) {
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			u := user(fmt.Sprint("u", i))
			u.Email = "one@example.com"
			_, err := e.Repositories().Users.Create(t.Context(), u)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, persistence.ErrExists):
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d users with one email", won.Load())
	}
}

// adminKey may do everything for all tenants.
func adminKey(id string, life time.Duration) persistence.Key {
	k := key(id)
	k.Tenant, k.Permissions, k.ExpiresAt = "", []string{"read", persistence.AdminPermission}, time.Time{}
	if life != 0 {
		k.ExpiresAt = messages.Now().Add(life)
	}
	return k
}

// keyFamilies: a key is revoked with the one that made it, or is kept as a child
// of that one's maker; nothing is made by a key that was revoked.
func keyFamilies(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	for _, k := range [][2]string{{"a", ""}, {"b", "a"}, {"c", "b"}, {"d", "c"}, {"e", "a"}, {"x", ""}} {
		made := key(k[0])
		made.Parent = k[1]
		if err := r.Create(ctx, made); err != nil {
			t.Fatal(err)
		}
		got, err := r.Get(ctx, made.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, made)
	}
	state := func(want string) {
		t.Helper()
		list, err := r.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, k := range list {
			got += fmt.Sprintf("%s<%s v%d %v, ", k.ID, k.Parent, k.Version, k.Active)
		}
		same(t, got, want)
	}
	ended, err := r.Revoke(ctx, "b", true)
	if err != nil {
		t.Fatal(err)
	}
	same(t, ended, []string{"b"})
	state("a< v1 true, b<a v2 false, c<a v1 true, d<c v1 true, e<a v1 true, x< v1 true, ")
	if ended, err = r.Revoke(ctx, "a", false); err != nil || len(ended) != 5 || ended[0] != "a" {
		t.Errorf("revoked %v, %v; want a and four others", ended, err)
	}
	state("a< v2 false, b<a v2 false, c<a v2 false, d<c v2 false, e<a v2 false, x< v1 true, ")
	orphan := key("f")
	for _, parent := range []string{"a", "nobody"} {
		orphan.Parent = parent
		if err := r.Create(ctx, orphan); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("a key made by %s: %v, want ErrNotFound", parent, err)
		}
	}
	// Another ruler that would end with it is none that stays.
	if err := r.Create(ctx, adminKey("p", 0)); err != nil {
		t.Fatal(err)
	}
	child := adminKey("q", 0)
	child.Parent = "p"
	if err := r.Create(ctx, child); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(ctx, "p", false); !errors.Is(err, persistence.ErrLastAdmin) {
		t.Errorf("revoke the last admin key with its child: %v, want ErrLastAdmin", err)
	}
	if _, err := r.Revoke(ctx, "p", true); err != nil {
		t.Errorf("revoke an admin key whose child stays: %v", err)
	}
}

// keyFamilyRace: whatever is made while its maker is revoked ends with it.
func keyFamilyRace(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	for round := range 8 {
		maker := key(fmt.Sprintf("maker%d", round))
		if err := r.Create(ctx, maker); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				k := key(fmt.Sprintf("%s-%d", maker.ID, i))
				k.Parent = maker.ID
				if err := r.Create(ctx, k); err != nil && !errors.Is(err, persistence.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, err := r.Revoke(ctx, maker.ID, false); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	}
	list, err := r.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.Active {
			t.Errorf("%s outlived its maker", k.ID)
		}
	}
}

// lastAdmin: the last key without an end that may do everything stays. One that
// ends, one of a tenant and one that was revoked do not take its place.
func lastAdmin(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	ofTenant, revoked := adminKey("tenant", 0), adminKey("revoked", 0)
	ofTenant.Tenant, revoked.Active = "default", false
	for _, k := range []persistence.Key{adminKey("p", 0), adminKey("ends", 4*time.Second), adminKey("over", -time.Second), ofTenant, revoked} {
		if err := r.Create(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke(ctx, "p", false); !errors.Is(err, persistence.ErrLastAdmin) {
		t.Errorf("revoke the last admin key: %v, want ErrLastAdmin", err)
	}
	if k, err := r.Get(ctx, "p"); err != nil || !k.Active || k.Version != 1 {
		t.Errorf("the last admin key is %+v, %v", k, err)
	}
	if err := r.Create(ctx, adminKey("q", 0)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"p", "p", "ends", "over", "tenant", "revoked"} {
		if _, err := r.Revoke(ctx, id, false); err != nil {
			t.Errorf("revoke %s while another admin key stays: %v", id, err)
		}
	}
	if _, err := r.Revoke(ctx, "q", false); !errors.Is(err, persistence.ErrLastAdmin) {
		t.Errorf("revoke the last admin key: %v, want ErrLastAdmin", err)
	}
}

// lastAdminRace: of many that revoke all admin keys at once the last is refused.
func lastAdminRace(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	var active []string
	for round := range 10 {
		for i := range 4 {
			id := fmt.Sprintf("k%d-%d", round, i)
			if err := r.Create(ctx, adminKey(id, 0)); err != nil {
				t.Fatal(err)
			}
			active = append(active, id)
		}
		var wg sync.WaitGroup
		var refused atomic.Int32
		for _, id := range active {
			wg.Go(func() {
				_, err := r.Revoke(ctx, id, false)
				if errors.Is(err, persistence.ErrLastAdmin) {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := r.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		active = nil
		for _, k := range all {
			if k.Active {
				active = append(active, k.ID)
			}
		}
		if len(active) != 1 || refused.Load() != 1 {
			t.Fatalf("round %d: the admin keys %v are left and %d calls were refused, want one each", round, active, refused.Load())
		}
	}
}
