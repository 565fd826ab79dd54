-- Answers of the OpenAI API. Bodies are left alone, but for errors that are not in OpenAI's shape yet.

-- HTTP status -> type and code, as in local_replies.py.
local KINDS = {
  [400] = {"invalid_request_error", "null"},
  [401] = {"invalid_request_error", '"invalid_api_key"'},
  [403] = {"permission_error", "null"},
  [404] = {"invalid_request_error", "null"},
  [413] = {"invalid_request_error", '"request_too_large"'},
  [429] = {"requests", '"rate_limit_exceeded"'},
  [503] = {"server_error", '"service_unavailable"'},
  [504] = {"server_error", '"timeout"'},
}
local OTHER = {"server_error", "null"}

-- The JSON string that follows a key, still escaped, without its quotes.
local function string_after(text, key)
  local _, opening = text:find('"' .. key .. '":%s*"')
  local from = opening and opening + 1
  local position = from
  while position do
    local quote = text:find('"', position, true)
    if not quote then return nil end
    if #text:sub(from, quote - 1):match("\\*$") % 2 == 0 then return text:sub(from, quote - 1) end
    position = quote + 1
  end
end

local function is_grpc(headers)
  return (headers:get("content-type") or ""):sub(1, 16) == "application/grpc"
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local wished = headers:get("x-ias-http-status")
  if wished then headers:remove("x-ias-http-status") end
  if is_grpc(headers) then return end
  headers:remove("grpc-accept-encoding")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
  headers:remove("grpc-status-details-bin")
  if wished and wished:match("^[2-5]%d%d$") then
    headers:replace(":status", wished)
    return
  end
  -- The adapter's headers travel behind the content type; see grpc_api/openai.py of inference.
  local content_type = headers:get("content-type") or ""
  local tail = content_type:find(";;", 1, true)
  if tail then
    headers:replace("content-type", content_type:sub(1, tail - 1))
    for name, value in content_type:gmatch(";;([%w-]+)=([^;]*)") do headers:replace(name, value) end
    return
  end

  local status = tonumber(headers:get(":status")) or 500
  if status < 400 then return end
  if status == 503 and not headers:get("retry-after") then headers:add("retry-after", "1") end
  local body = handle:body(true)
  local text = body:getBytes(0, body:length())
  if text:find('^%s*{%s*"error"') then return end
  local kind = KINDS[status] or OTHER
  local message = string_after(text, "message") or "The request failed."
  local length = body:setBytes(
    '{"error":{"message":"' .. message .. '","type":"' .. kind[1] .. '","param":null,"code":' .. kind[2] .. "}}"
  )
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(length))
end
