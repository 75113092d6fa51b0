#!/usr/bin/env ruby
# frozen_string_literal: true

# Talks to kas as Rails does: the gRPC gem and a JWT signed with the shared secret. Prints one JSON object a line.
#
#   gateway_client.rb list    ADDRESS SECRET_FILE
#   gateway_client.rb request ADDRESS SECRET_FILE AGENT_ID kubernetes|SERVICE METHOD PATH [BODY]
#   gateway_client.rb watch   ADDRESS SECRET_FILE
#
# The stubs are generated at every start, so that they are never older than the proto.
require 'json'
require 'openssl'
require 'base64'
require 'securerandom'
require 'socket'
require 'tmpdir'
require 'grpc'

PROTO = File.expand_path('../../../proto', __dir__)
FILE = 'kas/gateway/v1/gateway.proto'
TIMEOUT_SECONDS = 5

def load_stubs
  Dir.mktmpdir do |dir|
    done = system('grpc_tools_ruby_protoc', "-I#{PROTO}", "--ruby_out=#{dir}", "--grpc_out=#{dir}", FILE)
    abort 'grpc_tools_ruby_protoc failed: install ruby-grpc-tools' unless done
    $LOAD_PATH.unshift(dir)
    require 'kas/gateway/v1/gateway_services_pb'
  end
end

# HS256 for the audience gitlab-kas, good for a minute: what Gitlab::Kas::Client sends.
def jwt(secret)
  now = Time.now.to_i
  header = { typ: 'JWT', alg: 'HS256' }
  claims = { iss: Socket.gethostname, aud: 'gitlab-kas', jti: SecureRandom.uuid, iat: now, nbf: now - 5, exp: now + 60 }
  signed = [header, claims].map { |part| Base64.urlsafe_encode64(part.to_json, padding: false) }.join('.')
  signature = OpenSSL::HMAC.digest('SHA256', secret, signed)
  "#{signed}.#{Base64.urlsafe_encode64(signature, padding: false)}"
end

def say(object)
  puts JSON.generate(object)
  $stdout.flush
end

def agent(found)
  {
    agent_id: found.agent_id, name: found.name, node: found.node, connection: found.connection,
    version: found.version, connected_at: found.connected_at&.seconds, services: found.services.to_a
  }
end

def change(message)
  value = message.public_send(message.change)
  case message.change
  when :snapshot
    { last: value.last, complete: value.complete, missing_nodes: value.missing_nodes.to_a, agents: value.agents.map { |one| agent(one) } }
  when :connected then agent(value)
  when :disconnected then { agent_id: value.agent_id, node: value.node, connection: value.connection }
  when :resync then { node: value.node, last: value.last, agents: value.agents.map { |one| agent(one) } }
  end
end

verb, address, secret_file, *rest = ARGV
abort 'usage: gateway_client.rb list|request|watch ADDRESS SECRET_FILE …' unless secret_file
load_stubs
Api = Kas::Gateway::V1
secret = Base64.strict_decode64(File.read(secret_file).lines.first.strip)
kas = Api::Gateway::Stub.new(address, :this_channel_is_insecure)
options = { metadata: { 'authorization' => "bearer #{jwt(secret)}" } }
soon = -> { { **options, deadline: Time.now + TIMEOUT_SECONDS } }

begin
  case verb
  when 'list'
    token = ''
    loop do
      page = kas.list_agents(Api::ListAgentsRequest.new(page_token: token), **soon.call)
      page.agents.each { |one| say(agent(one)) }
      say(complete: page.complete, missing_nodes: page.missing_nodes.to_a)
      token = page.next_page_token
      break if token.empty?
    end
  when 'request'
    id, target, method, path, body = rest
    where = target == 'kubernetes' ? { kubernetes_api: Api::KubernetesApi.new } : { service: target }
    question = Api::HttpRequest.new(
      agent_id: Integer(id), target: Api::Target.new(**where), method: method, path: path, body: body.to_s.b, actor: 'ruby'
    )
    answer = kas.request(question, **soon.call)
    say(
      status: answer.status,
      headers: answer.headers.map { |header| [header.name, header.value] },
      body: answer.body.dup.force_encoding('UTF-8').scrub
    )
  when 'watch'
    # In a thread of its own: a thread that waits inside the gem takes no signals.
    %w[INT TERM].each { |signal| trap(signal) { exit!(0) } }
    reader = Thread.new do
      Thread.current.report_on_exception = false
      kas.watch_agents(Api::WatchAgentsRequest.new, **options).each { |message| say(type: message.change, **change(message)) }
    end
    reader.join
  else
    abort "unknown verb #{verb}: list, request or watch"
  end
rescue GRPC::BadStatus => e
  # Only kas's own statuses have a failure code.
  say(code: e.code, details: e.details, failure_code: e.metadata['failure-code'])
  exit 1
end
