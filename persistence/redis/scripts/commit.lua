-- commit applies one batch: fences and compares first, then everything that
-- fits with a bounded number of variadic commands. It is repeatable: the same
-- (writer, number) sent again answers what it answered the first time.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 dataset id, 2 writer id, 3 number of this writer's batch, 4 least
--          batch counter that the store must have, 5 "1": feed the outbox,
--          6 fences, 7 sets of fences, 8 task ids, 9 idempotency keys, 10 sessions,
--          11 pools, 12 ops, 13 heads, 14 data, 15 events,
--          then the fences' fields "<scope>:<key>", the fences' values
--          "<epoch>\0<owner>" ("" never holds), the sets (2 bytes for the index
--          of each fence), the ids, the idempotency fields, the session fields,
--          the pools, then the extras of those ops that have some.
-- heads    54 bytes each, big-endian: kind (1), flags (1), number of extras (2),
--          index of the id (4), number of events (2), index of the pool (2),
--          seq (8), bytes of its row (4), of its spec (4) and of its events (4),
--          index of its set of fences (2, 0: none), then for an update the 9
--          bytes state+claim to compare or for an insert created_at (8) and a
--          filler, a filler, then the 10 bytes state+claim+flags to write
-- data     one after the other what the ops write: of an update the tail of the
--          row, of an insert names and tail, then the spec row
-- extras   flag 8: index of the session, its expected generation ("" any, "-"
--          no row, "!" none fits, else 8 bytes), its row ("" removes it);
--          flag 16: gateway id, its row;
--          flag 32, insert: index of the idempotency key (0: none), its value,
--          session, with flag 1 its cancel row, labels;
--          cancel: tenant, "<at><reason>"
-- returns  {"OK", batch, seq of the first event, one status digit per op,
--          currents}; currents is a flat list of op index, id, task row, spec
--          row, cancel row. Statuses are those of persistence.Status; 6 is a
--          duplicate with the same body.
--          {"LOST", dataset, batch, this writer's number as found}: nothing was
--          written, the store is not what the writer knows.
-- replies with an error only before its first write.
local P = KEYS[1]
local call, byte, sub, char, unpk, pack, band = redis.call, string.byte, string.sub, string.char, struct.unpack, struct.pack, bit.band
local fmt = string.format
local function int(n) return fmt('%.0f', n) end

local meta = call('HMGET', P .. 'meta', 'dataset', 'batch', 'seq', 'no', 'drift', 'ended')
local writer, number = ARGV[2], tonumber(ARGV[3])
local seen = call('HGET', P .. 'writer', writer)
local found, answered, kept = 0, nil, false
if seen then
  local f, b, s, st, c = string.match(seen, '^(%d+) (%d+) (%d+) (%d*)(c?) ')
  kept = c == 'c' -- its currents are kept beside it
  found = tonumber(f)
  answered = {'OK', tonumber(b), tonumber(s), st}
end
if meta[1] ~= ARGV[1] or tonumber(meta[2] or 0) < tonumber(ARGV[4]) or (found ~= number and found ~= number - 1) then
  return {'LOST', meta[1] or '', tonumber(meta[2] or 0), found}
end
if found == number then
  answered[5] = kept and cmsgpack.unpack(call('HGET', P .. 'writer:currents', writer)) or {}
  return answered
end
local batch, first, lastno, drift, ended = tonumber(meta[2]) + 1, tonumber(meta[3]) + 1, tonumber(meta[4]), tonumber(meta[5]), tonumber(meta[6])
local seq = first - 1
local rev = pack('>I8', batch)

local CHUNK = 4000
local function fetch(key, from, n)
  if n == 0 then return {} end
  if n <= CHUNK then return call('HMGET', key, unpack(ARGV, from, from + n - 1)) end
  local all = {}
  for i = 0, n - 1, CHUNK do
    local m = math.min(CHUNK, n - i)
    local part = call('HMGET', key, unpack(ARGV, from + i, from + i + m - 1))
    for k = 1, m do all[i + k] = part[k] end
  end
  return all
end
local function put(cmd, key, list)
  local n = #list
  if n == 0 then return end
  for i = 1, n, CHUNK do call(cmd, key, unpack(list, i, math.min(n, i + CHUNK - 1))) end
end

local nf, nset, nid, nidem, nses, npool, nops = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local H, D, E = ARGV[13], ARGV[14], ARGV[15]
local at = 16
local owners = fetch(P .. 'owner', at, nf)
local hold = {}
for i = 1, nf do hold[i] = owners[i] == ARGV[at + nf + i - 1] end
at = at + 2 * nf
local fits = {[0] = true}
for i = 1, nset do
  local set, all = ARGV[at + i - 1], true
  for k = 1, #set, 2 do all = all and hold[byte(set, k) * 256 + byte(set, k + 1)] end
  fits[i] = all
end
at = at + nset
local ids = at - 1 -- ARGV[ids + i] is the i-th id
local rows = fetch(P .. 'task', at, nid)
at = at + nid
local idems = at - 1
local idem = fetch(P .. 'idem', at, nidem)
at = at + nidem
local sess = at - 1
local sessions = fetch(P .. 'agent', at, nses)
local pools = at + nses - 1
local q = pools + npool + 1

local orig, dirty = {}, {} -- the rows before the batch, false: none; which have changed
local specs, cancels, fresh = {}, {}, {}
local setidem, order, labels, bysession, endno = {}, {}, {}, {}, {}
local setsess, newsess, setgw = {}, {}, {}
local poolmax, statuses, currents, allok = {}, {}, {}, true

local function touch(i)
  if orig[i] == nil then orig[i] = rows[i]; dirty[#dirty + 1] = i end
end
local function cancelof(i, row)
  if band(byte(row, 10), 1) == 0 then return '' end
  return cancels[i] or call('HGET', P .. 'cancel', ARGV[ids + i]) or ''
end
local function current(o, i)
  local n = #currents
  currents[n + 1], currents[n + 2], currents[n + 3] = o, ARGV[ids + i], rows[i]
  currents[n + 4] = specs[i] or call('HGET', P .. 'spec', ARGV[ids + i]) or ''
  currents[n + 5] = cancelof(i, rows[i])
end
local byid
local function duplicate(o, value)
  local n = byte(value, 1) * 256 + byte(value, 2)
  local id = sub(value, 3, 2 + n)
  if not byid then
    byid = {}
    for i = 1, nid do byid[ARGV[ids + i]] = i end
  end
  if byid[id] and rows[byid[id]] then return current(o, byid[id]) end
  local row = call('HGET', P .. 'task', id)
  local c = #currents
  currents[c + 1], currents[c + 2], currents[c + 3] = o, id, row or ''
  currents[c + 4] = call('HGET', P .. 'spec', id) or ''
  currents[c + 5] = row and band(byte(row, 10), 1) == 1 and call('HGET', P .. 'cancel', id) or ''
end
local function poolof(row)
  local n = byte(row, 29) * 256 + byte(row, 30)
  return sub(row, 31, 30 + n)
end
local function sessionof(row)
  local total = byte(row, 27) * 256 + byte(row, 28)
  local n = byte(row, 29) * 256 + byte(row, 30)
  return sub(row, 31 + n, 28 + total)
end

-- One entry of the log holds up to 512 events or 256 KiB. What ops that follow
-- each other write is cut out of the events in one piece.
local entries, pieces, count, size, begun = {}, {}, 0, 0, 1
local function cut(upto)
  if upto >= begun then pieces[#pieces + 1] = begun == 1 and upto == #E and E or sub(E, begun, upto) end
  begun = upto + 1
end
local function entry(upto)
  cut(upto)
  if count > 0 then entries[#entries + 1] = count; entries[#entries + 1] = pieces[2] and table.concat(pieces) or pieces[1] end
  pieces, count, size = {}, 0, 0
end

local h, d, e = 1, 1, 1 -- where the op's parts begin
for o = 1, nops do
  local kind, fl, nextra, i, nev, pi, s, nrow, nspec, nevents, set = unpk('>BBI2I4I2I2I8I4I4I4I2', H, h)
  local after = q + nextra
  local st = 1
  if not fits[set] then
    st = 2
  else
    local si, sgen, srow, gid, grow
    if band(fl, 8) ~= 0 then si, sgen, srow = tonumber(ARGV[q]), ARGV[q + 1], ARGV[q + 2]; q = q + 3 end
    if band(fl, 16) ~= 0 then gid, grow = ARGV[q], ARGV[q + 1]; q = q + 2 end
    local row = rows[i]
    local ik, session = 0, ''
    -- Compare everything before anything changes.
    if kind == 85 then -- U
      if not row then st = 5
      elseif sub(row, 1, 9) ~= sub(H, h + 34, h + 42) or (band(fl, 1) ~= 0 and band(byte(row, 10), 1) ~= 0) then st = 3; current(o, i) end
    elseif kind == 73 then -- I
      if band(fl, 32) ~= 0 then ik, session = tonumber(ARGV[q]), ARGV[q + 2] end
      if ik > 0 and idem[ik] then
        st = idem[ik]; local want = ARGV[q + 1]
        local n1, n2 = byte(st, 1) * 256 + byte(st, 2), byte(want, 1) * 256 + byte(want, 2)
        duplicate(o, st)
        st = sub(st, 3 + n1) == sub(want, 3 + n2) and 6 or 4
      elseif row then st = 3; current(o, i) end
    elseif kind == 67 then -- C
      if not row then st = 5
      else
        local spec = specs[i] or call('HGET', P .. 'spec', ARGV[ids + i]) or '\0\0'
        local n = byte(spec, 1) * 256 + byte(spec, 2)
        if ARGV[q] ~= '' and sub(spec, 3, 2 + n) ~= ARGV[q] then st = 5
        elseif byte(row, 1) >= 9 then st = 3; current(o, i) end
      end
    end
    if st == 1 and si then
      local have = sessions[si]
      if not (sgen == '' or (have and sub(have, 1, 8) == sgen) or (not have and sgen == '-')) then
        st = 3
        if kind ~= 0 and row then current(o, i) end
      end
    end
    -- All fits.
    if st == 1 then
      if kind == 85 then
        local f, to = byte(row, 10), sub(H, h + 44, h + 53)
        if f % 4 ~= 0 then -- flags that only the row knows
          if band(fl, 2) ~= 0 and f % 2 == 1 then f = f - 1; cancels[i] = '' end
          to = sub(to, 1, 9) .. char(f % 4 + byte(to, 10))
        end
        if orig[i] == nil then orig[i] = row; dirty[#dirty + 1] = i end
        rows[i] = to .. rev .. sub(row, 19, 28 + byte(row, 27) * 256 + byte(row, 28)) .. sub(D, d, d + nrow - 1)
        if (poolmax[pi] or -1) < s then poolmax[pi] = s end
        if byte(to) >= 9 then ended = ended + 1; endno[i] = ended end
      elseif kind == 73 then
        local created = unpk('>I8', H, h + 34)
        local no = lastno + 1
        if no < created then no = created end
        lastno = no
        if no - created > drift then drift = no - created end
        local to, id, n = sub(H, h + 44, h + 53), ARGV[ids + i], int(no)
        if orig[i] == nil then orig[i] = false; dirty[#dirty + 1] = i end
        rows[i] = to .. rev .. pack('>I8', no) .. sub(D, d, d + nrow - 1)
        specs[i] = sub(D, d + nrow, d + nrow + nspec - 1)
        fresh[#fresh + 1] = i
        order[#order + 1] = n; order[#order + 1] = id
        if (poolmax[pi] or -1) < s then poolmax[pi] = s end
        if byte(to) >= 9 then ended = ended + 1; endno[i] = ended end
        if ik > 0 then idem[ik] = ARGV[q + 1]; setidem[#setidem + 1] = ARGV[idems + ik]; setidem[#setidem + 1] = ARGV[q + 1] end
        if session ~= '' then bysession[#bysession + 1] = {session, n, id} end
        if band(fl, 32) ~= 0 then
          local l = q + 3
          if band(fl, 1) ~= 0 then cancels[i] = ARGV[l]; l = l + 1 end
          for k = l, after - 1 do labels[#labels + 1] = {ARGV[k], n, id} end
        end
      elseif kind == 67 then
        if band(byte(row, 10), 1) == 0 then
          touch(i)
          cancels[i] = ARGV[q + 1]
          rows[i] = sub(row, 1, 9) .. char(byte(row, 10) + 1) .. rev .. sub(row, 19)
        end
        current(o, i)
      end
      if si then
        if srow == '' then srow = false -- removed
        elseif not sessions[si] then newsess[#newsess + 1] = '0'; newsess[#newsess + 1] = ARGV[sess + si] end
        sessions[si] = srow
        setsess[si] = srow
      end
      if gid then setgw[#setgw + 1] = gid; setgw[#setgw + 1] = grow end
      if nev > 0 then
        count, size, seq = count + nev, size + nevents, seq + nev
        if count >= 512 or size >= 262144 then entry(e + nevents - 1) end
      end
    end
  end
  statuses[o] = st
  if st ~= 1 then
    allok = false
    if nevents > 0 then cut(e - 1); begun = e + nevents end
  end
  h, d, e, q = h + 54, d + nrow + nspec, e + nevents, after
end
entry(e - 1)

-- From here on only writes; none of them can fail.
local tasks, open, closed, failed, cleared, out, newspecs, setcancel, delcancel = {}, {}, {}, {}, {}, {}, {}, {}, {}
for _, i in ipairs(dirty) do
  local id, row, old = ARGV[ids + i], rows[i], orig[i]
  tasks[#tasks + 1] = id; tasks[#tasks + 1] = row
  local ns, nf = byte(row, 1), byte(row, 10)
  local os, of = 0, 0
  if old then os, of = byte(old, 1), byte(old, 10) end
  local wasopen, isopen = old and os < 9, ns < 9
  if isopen and not wasopen then
    local pool = poolof(row)
    local l = open[pool]
    if not l then l = {}; open[pool] = l end
    l[#l + 1] = '0'; l[#l + 1] = id
  elseif wasopen and not isopen then
    local pool = poolof(row)
    local l = closed[pool]
    if not l then l = {}; closed[pool] = l end
    l[#l + 1] = id
  end
  local isfailed, wasfailed = ns > 9 or band(nf, 4) ~= 0, old and (os > 9 or band(of, 4) ~= 0)
  if isfailed and not wasfailed then failed[#failed + 1] = int(unpk('>I8', row, 19)); failed[#failed + 1] = id
  elseif wasfailed and not isfailed then cleared[#cleared + 1] = id end
  if band(nf, 2) ~= 0 then
    if ns == 9 then call('ZADD', P .. 'ended:' .. sessionof(row), int(endno[i]), id)
    elseif os == 9 then call('ZREM', P .. 'ended:' .. sessionof(row), id) end
  end
  if not old or ns >= 9 or os >= 9 then out[#out + 1] = id end
  local c = cancels[i]
  if c == '' then delcancel[#delcancel + 1] = id
  elseif c then setcancel[#setcancel + 1] = id; setcancel[#setcancel + 1] = c end
end
for _, i in ipairs(fresh) do newspecs[#newspecs + 1] = ARGV[ids + i]; newspecs[#newspecs + 1] = specs[i] end
put('HSET', P .. 'task', tasks)
put('HSET', P .. 'spec', newspecs)
put('HSET', P .. 'idem', setidem)
put('HSET', P .. 'cancel', setcancel)
put('HDEL', P .. 'cancel', delcancel)
put('ZADD', P .. 'order', order)
put('ZADD', P .. 'failed', failed)
put('ZREM', P .. 'failed', cleared)
for pool, l in pairs(open) do put('ZADD', P .. 'open:' .. pool, l) end
for pool, l in pairs(closed) do put('ZREM', P .. 'open:' .. pool, l) end
for _, l in ipairs(bysession) do call('ZADD', P .. 'tasks:' .. l[1], l[2], l[3]) end
for _, l in ipairs(labels) do call('ZADD', P .. 'label:' .. l[1], l[2], l[3]) end
local agents, gone = {}, {}
for i, row in pairs(setsess) do
  if row then agents[#agents + 1] = ARGV[sess + i]; agents[#agents + 1] = row
  else gone[#gone + 1] = ARGV[sess + i] end
end
put('HSET', P .. 'agent', agents)
put('ZADD', P .. 'agents', newsess)
put('HDEL', P .. 'agent', gone)
put('ZREM', P .. 'agents', gone)
put('HSET', P .. 'gateway', setgw)
for pi, s in pairs(poolmax) do
  local pool = ARGV[pools + pi]
  local have = call('HGET', P .. 'pool', pool)
  if not have or tonumber(have) < s then call('HSET', P .. 'pool', pool, int(s)) end
end
local now = call('TIME')
now = now[1] .. fmt('%06d', tonumber(now[2]))
local done = first - 1
for k = 1, #entries, 2 do
  done = done + entries[k]
  call('XADD', P .. 'log', int(done) .. '-0', 'n', int(entries[k]), 't', now, 'e', entries[k + 1])
end
if ARGV[5] == '1' and #out > 0 then call('XADD', P .. 'outbox', int(batch) .. '-0', 's', int(seq), 't', now, 'i', table.concat(out, '\0')) end
call('HSET', P .. 'meta', 'batch', int(batch), 'seq', int(seq), 'no', int(lastno), 'drift', int(drift), 'ended', int(ended))
local digits = allok and string.rep('1', nops) or table.concat(statuses)
call('HSET', P .. 'writer', writer, int(number) .. ' ' .. int(batch) .. ' ' .. int(first) .. ' ' .. digits .. (currents[1] and 'c ' or ' ') .. now)
if currents[1] then call('HSET', P .. 'writer:currents', writer, cmsgpack.pack(currents))
elseif kept then call('HDEL', P .. 'writer:currents', writer) end
return {'OK', batch, first, digits, currents}
