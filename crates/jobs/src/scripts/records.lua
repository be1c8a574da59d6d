-- Records of jobs and runs (`RECORDS` in mod.rs says what they have): tables, each stored as one string, which costs Redis far
-- less than a hash. A call reads each once and writes it once, at its end (`flush_records`); in between all of it sees the same.
local records = { job = {}, run = {} } -- by kind and id; false for what is not there
local changed = { job = {}, run = {} } -- how each is written: 'MSET', 'EX' for what has just ended, 'KEEPTTL' for what ended before
local texts = {} -- strings to be written, by key; false for what was deleted
local dropped = {} -- keys

-- Reads many at once.
local function fetch(kind, ids)
  if #ids == 0 then return end
  local names, known = {}, records[kind]
  for i, id in ipairs(ids) do names[i] = key(kind, id) end
  for i, stored in ipairs(call('MGET', unpack(names))) do
    if known[ids[i]] == nil then known[ids[i]] = stored and UNPACK[kind](stored) end
  end
end
local function read(kind, id)
  local record = records[kind][id]
  if record == nil then
    local stored = call('GET', key(kind, id))
    record = stored and UNPACK[kind](stored)
    records[kind][id] = record
  end
  return record or nil
end
local function write(kind, id, record, how)
  records[kind][id] = record
  changed[kind][id] = how or changed[kind][id] or 'MSET'
end
local function drop(kind, id)
  records[kind][id], changed[kind][id] = false, nil
  dropped[#dropped + 1] = key(kind, id)
end

local function read_text(name)
  if texts[name] == nil then return call('GET', name) end
  return texts[name]
end
local function write_text(name, value) texts[name] = value end
local function drop_text(name)
  texts[name] = false
  dropped[#dropped + 1] = name
end

local function flush_records()
  in_parts('DEL', nil, dropped)
  local set = {}
  for kind, ids in pairs(changed) do
    for id, how in pairs(ids) do
      local name, packed = key(kind, id), PACK[kind](records[kind][id])
      if how == 'MSET' then
        set[#set + 1] = name
        set[#set + 1] = packed
      elseif how == 'EX' then
        call('SET', name, packed, 'EX', kept_jobs)
      else
        call('SET', name, packed, 'KEEPTTL')
      end
    end
  end
  for name, value in pairs(texts) do
    if value then
      set[#set + 1] = name
      set[#set + 1] = value
    end
  end
  in_parts('MSET', nil, set)
  changed, texts, dropped = { job = {}, run = {} }, {}, {}
end
