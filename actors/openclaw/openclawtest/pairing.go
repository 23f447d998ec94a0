package openclawtest

import (
	"slices"

	"github.com/google/uuid"
)

func (c *conn) pairList(string, params) (any, *rpcError) {
	st := c.g.store
	pending, paired := []any{}, []any{}
	for _, ask := range st.asking {
		pending = append(pending, map[string]any{"requestId": ask.ID, "deviceId": ask.Device, "clientId": ask.Client.str("id"), "clientMode": ask.Client.str("mode"),
			"platform": ask.Client.str("platform"), "role": ask.Role, "roles": []string{ask.Role}, "scopes": ask.Scopes, "silent": false, "isRepair": false, "ts": ask.At})
	}
	for _, d := range st.paired {
		connected := false
		for o := range c.l.conns {
			connected = connected || o.ready && o.device == d.DeviceID
		}
		paired = append(paired, map[string]any{"deviceId": d.DeviceID, "scopes": d.Scopes, "approvedVia": "manual", "connected": connected,
			"tokens": []any{map[string]any{"role": d.Role, "scopes": d.Scopes}}})
	}
	return map[string]any{"pending": pending, "paired": paired}, nil
}

func (c *conn) askedPairing(p params) (*pairingRequest, *rpcError) {
	for _, ask := range c.g.store.asking {
		if ask.ID == p.str("requestId") {
			return ask, nil
		}
	}
	return nil, invalid("device pairing approval denied")
}

func (c *conn) pairApprove(_ string, p params) (any, *rpcError) {
	ask, err := c.askedPairing(p)
	if err != nil {
		return nil, err
	}
	if ask.Device == "" {
		return nil, invalid("device pairing approval denied")
	}
	for _, s := range ask.Scopes {
		if !c.scopes.allows(s) {
			return nil, &rpcError{Code: "FORBIDDEN", Message: "missing scope: " + s}
		}
	}
	c.g.approve(c.l, ask)
	return map[string]any{"requestId": ask.ID, "device": map[string]any{"deviceId": ask.Device, "scopes": ask.Scopes}}, nil
}

func (g *Gateway) approve(l *life, ask *pairingRequest) {
	d := &pairedDevice{DeviceID: ask.Device, Role: ask.Role, Scopes: slices.Clone(ask.Scopes), Token: deriveToken(uuid.NewString())}
	g.store.paired[ask.Device] = d
	g.store.put(record{Op: "paired", Paired: d})
	delete(g.store.asking, ask.Device)
	g.emit(l, "device.pair.resolved", map[string]any{"requestId": ask.ID, "deviceId": ask.Device, "decision": "approved"})
}

func (c *conn) pairReject(_ string, p params) (any, *rpcError) {
	ask, err := c.askedPairing(p)
	if err != nil {
		return nil, err
	}
	delete(c.g.store.asking, ask.Device)
	c.g.emit(c.l, "device.pair.resolved", map[string]any{"requestId": ask.ID, "deviceId": ask.Device, "decision": "rejected"})
	return map[string]any{"requestId": ask.ID, "deviceId": ask.Device}, nil
}

// deriveToken makes a 43-character token of a random id.
func deriveToken(of string) string {
	return (deriveID(of) + deriveID(of+"."))[:43]
}
