package app

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestGatewaysElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := benchNode(t, t.TempDir(), 1, 1, nil)
	c := newCommands(a).gateways()
	add := func(id, url string) error {
		_, err := c.Create(ctx, "", messages.Gateway{ID: id, Tenant: "default", Pool: "default", URL: url, Token: "t", Weight: 1})
		return err
	}
	elsewhere := []string{"ws://10.1.2.3:1", "wss://gw.invalid/", "ws://0.0.0.0:1", "ws://[fd00::1]:1", "ws://169.254.169.254/", "ws://[::ffff:10.1.2.3]:1"}
	token := messages.Secret("t")
	for _, url := range elsewhere {
		refusedFor(t, add("far", url), messages.CodeInvalid, "is not this machine", "has to be paired")
		_, err := c.Update(ctx, "", "gw-0", server.GatewayChange{URL: &url, Token: &token}, 0)
		refusedFor(t, err, messages.CodeInvalid, "is not this machine")
	}
	for id, url := range map[string]string{"a": "ws://localhost:101", "b": "ws://[::1]:102", "c": "ws://127.9.9.9:103", "d": "ws://[::ffff:127.0.0.1]:104"} {
		if err := add(id, url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	a.networks.Within = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for id, url := range map[string]string{"e": "ws://10.1.2.3:1", "f": "ws://[::ffff:10.1.2.4]:1"} {
		if err := add(id, url); err != nil {
			t.Errorf("%s is in the networks: %v", url, err)
		}
	}
	refusedFor(t, add("g", "ws://10.2.0.1:1"), messages.CodeInvalid, "is not this machine")
	refusedFor(t, add("g", "ws://gw.invalid:1"), messages.CodeInvalid, "cannot be resolved")
	refusedFor(t, add("g", "ws://"+a.networks.Own[0].String()), messages.CodeInvalid, "Dash itself listens there")
	refusedFor(t, add("g", fmt.Sprintf("ws://localhost.:%d", a.networks.Own[0].Port())), messages.CodeInvalid, "Dash itself listens there")
}

// TestATenantsGatewayIsNotNearby: however the address is written, a key of one
// tenant neither makes a gateway there nor moves one, even when every network is
// named, and is told the same of all.
func TestATenantsGatewayIsNotNearby(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	a.networks.Within = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	c := newCommands(a).gateways()
	gw := func(id, url string) messages.Gateway {
		return messages.Gateway{ID: id, Tenant: "default", Pool: "default", URL: url, Token: "t", Weight: 1}
	}
	must(c.Create(ctx, "default", gw("mine", "ws://10.1.2.3:1")))(t)
	a.networks.Own = append(a.networks.Own, netip.AddrPortFrom(netip.IPv6Unspecified(), 4242))
	token := messages.Secret("t")
	var told string
	for _, url := range []string{
		"ws://127.0.0.1:1", "ws://127.1.2.3:1", "ws://localhost:1", "ws://LOCALHOST:1", "ws://localhost.:1", "ws://a.localhost:1", "ws://[::1]:1", "ws://[::ffff:127.0.0.1]:1", "ws://[::ffff:7f00:1]:1",
		"ws://169.254.169.254/", "ws://[::ffff:169.254.169.254]/", "ws://[fe80::1]:1", "ws://[fe80::1%25lo]:1", "ws://[::127.0.0.1]:1", "ws://[64:ff9b::7f00:1]:1", "ws://[64:ff9b::a9fe:a9fe]/", "ws://[2002:7f00:1::]:1",
		"ws://0.0.0.0:1", "ws://0.1.2.3:1", "ws://[::]:1", "ws://224.0.0.1:1", "ws://[ff02::1]:1", "ws://255.255.255.255:1", "ws://[fd00:ec2::254]/", "ws://168.63.129.16/", "ws://100.100.100.200/",
		"ws://2130706433:1", "ws://0x7f000001:1", "ws://127.1:1", "ws://0177.0.0.1:1", "ws://gw.invalid:1", "ws://" + anAddressOfThisHost(t) + ":4242",
	} {
		_, err := c.Create(ctx, "default", gw("near", url))
		refusedFor(t, err, messages.CodeInvalid, "may not be at", "--gateway-networks")
		_, err = c.Update(ctx, "default", "mine", server.GatewayChange{URL: &url, Token: &token}, 0)
		refusedFor(t, err, messages.CodeInvalid, "may not be at")
		words, _, _ := strings.Cut(err.Error(), "may not be at ")
		if told == "" {
			told = words
		}
		if words != told {
			t.Errorf("%s: %q, and of others %q", url, words, told)
		}
	}
	for id, url := range map[string]string{"a": "ws://127.0.0.1:101", "b": "ws://169.254.169.254/"} {
		must(c.Create(ctx, "", gw(id, url)))(t)
	}
}

func anAddressOfThisHost(t *testing.T) string {
	t.Helper()
	for _, i := range must(net.InterfaceAddrs())(t) {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}

// TestANameThatLeadsHomeLaterIsNotDialled: the name means a permitted address when
// the gateway is made, and this machine when it is dialled. It changes the
// resolver of the process, so no test runs beside it.
func TestANameThatLeadsHomeLaterIsNotDialled(t *testing.T) { //nolint:paralleltest // it changes the process's resolver
	near := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer near.Close()
	var answer atomic.Value
	answer.Store([4]byte{10, 1, 2, 3})
	old := net.DefaultResolver
	net.DefaultResolver = nameServer(t, &answer)
	defer func() { net.DefaultResolver = old }()

	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node, cfg.GatewayNetworks = "127.0.0.1:0", t.TempDir(), "n", []string{"10.1.0.0/16"}
	a, admin := startProcess(t, cfg, "")
	defer func() { _ = a.Stop() }()
	tenant := tenantClient(t, a, admin, "acme")
	url := fmt.Sprintf("ws://gw.dash.test:%d", near.Addr().(*net.TCPAddr).Port)
	if err := a.networks.Reachable(t.Context(), "acme", url); err != nil {
		t.Fatal(err)
	}
	answer.Store([4]byte{127, 0, 0, 1})
	g := must(a.repos.Gateways.Create(t.Context(), messages.Gateway{ID: "gw", Tenant: "acme", Pool: messages.OwnPool("acme"), Node: "n", URL: url, Token: "t",
		MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now()}))(t)
	if err := a.fleet.StartGateway(t.Context(), g, messages.GatewayStatus{}); err != nil {
		t.Fatal(err)
	}
	reaches(t, newCommands(a).gateways(), "gw", messages.GatewayQuarantined)
	if why := text(must(admin.GetGateway(t.Context(), "gw"))(t).Reason); !strings.Contains(why, "127.0.0.1") {
		t.Errorf("a key of all tenants is told %q", why)
	}
	if why := text(must(tenant.GetGateway(t.Context(), "gw"))(t).Reason); why != messages.GatewayUnreached {
		t.Errorf("the tenant is told %q", why)
	}
	if err := near.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := near.Accept(); err == nil {
		_ = c.Close()
		t.Error("it was connected to")
	}
}

// nameServer answers every question for an IPv4 address, in an hour's truth.
func nameServer(t *testing.T, answer *atomic.Value) *net.Resolver {
	t.Helper()
	l := must(net.ListenPacket("udp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 + strings.IndexByte(string(buf[12:n]), 0) + 5 // the first question
			reply := append([]byte{}, buf[:end]...)
			copy(reply[2:12], []byte{0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0})
			if buf[end-3] == 1 { // A
				ip := answer.Load().([4]byte)
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				reply = append(reply, ip[:]...)
			}
			_, _ = l.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("udp", l.LocalAddr().String())
	}}
}

func tenantClient(t *testing.T, a *App, admin *api.Client, tenant string) *api.Client {
	t.Helper()
	must(admin.CreateTenant(t.Context(), api.CreateTenant{Id: tenant}))(t)
	key := must(admin.CreateKey(t.Context(), api.CreateKey{Name: "k", Tenant: &tenant, Permissions: []api.Permission{"read", "gateways:write", "events:read"}}))(t)
	return apiClient(t, a, messages.Secret(*key.Key))
}

// TestATenantLearnsNothingOfItsGatewaysNeighbours: what answers at the address
// is told in three coarse ways, in lists, in single gateways and in events.
func TestATenantLearnsNothingOfItsGatewaysNeighbours(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node = "127.0.0.1:0", t.TempDir(), "n"
	a, admin := startProcess(t, cfg, "")
	t.Cleanup(func() { _ = a.Stop() })
	tenant := tenantClient(t, a, admin, "acme")
	const closed, banner, page, server5, login = "closed", "banner", "page", "server5", "login"
	urls := map[string]string{}
	gone := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	urls[closed] = "ws://" + gone.Addr().String()
	_ = gone.Close()
	urls[banner] = "ws://" + speaks(t, "SSH-2.0-Secret_9.9\r\n")
	for name, status := range map[string]int{page: 404, server5: 503, login: 401} {
		urls[name] = "ws://" + speaks(t, fmt.Sprintf("HTTP/1.1 %d Secret\r\nServer: Secret/1\r\nContent-Length: 0\r\n\r\n", status))
	}
	for id, url := range urls {
		must(admin.CreateGateway(t.Context(), api.CreateGateway{Id: id, Url: &url, Token: new("t"), Tenant: new("acme")}))(t)
	}
	want := map[string]string{closed: messages.GatewayUnreached, banner: messages.GatewayUnreached, page: messages.GatewayNoProtocol, server5: messages.GatewayNoProtocol, login: messages.GatewayNoProtocol}
	for id, why := range want {
		var full, coarse string
		eventually(t, id+" to fail", func() bool {
			full = text(must(admin.GetGateway(t.Context(), id))(t).Reason)
			return full != ""
		})
		g := must(tenant.GetGateway(t.Context(), id))(t)
		if coarse = text(g.Reason); coarse != why || strings.Contains(text(g.NextStep), "HTTP") || g.NextStep == nil {
			t.Errorf("%s: the tenant is told %q and %q, want %q", id, coarse, text(g.NextStep), why)
		}
		if !strings.HasPrefix(full, why+": ") || len(full) < len(why)+10 {
			t.Errorf("%s: a key of all tenants is told %q", id, full)
		}
	}
	for _, g := range must(tenant.ListGateways(t.Context(), "", nil, api.Page{}))(t).Items {
		if text(g.Reason) != want[g.Id] {
			t.Errorf("listed as %q", text(g.Reason))
		}
	}
	seen := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for e, err := range tenant.StreamEvents(ctx, []string{"gateway.*"}, 0) {
		if err != nil {
			t.Fatalf("after the events of %v: %v", seen, err)
		}
		if e.Data == nil {
			continue
		}
		data := string(*e.Data)
		if strings.Contains(data, "127.0.0.1") || strings.Contains(data, "Secret") || strings.Contains(data, "refused\"") || strings.Contains(data, "HTTP") {
			t.Errorf("the event tells too much: %s", data)
		}
		for id, why := range want {
			seen[id] = seen[id] || strings.Contains(data, `"`+id+`"`) && strings.Contains(data, why)
		}
		if seen[closed] && seen[banner] && seen[page] && seen[server5] && seen[login] {
			break
		}
	}
}

// speaks answers whoever connects with a text, after the first line is there.
func speaks(t *testing.T, words string) (address string) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write([]byte(words))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}
