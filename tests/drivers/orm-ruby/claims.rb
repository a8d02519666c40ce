# What Rails does to its sessions, through Headpond.

require 'active_record'
require 'pg'

PORTS = %w[direct session transaction].to_h { |mode| [mode, Integer(ENV.fetch("#{mode.upcase}_PORT"))] }
PID = 'SELECT pg_backend_pid()'.freeze

class Book < ActiveRecord::Base; end

ActiveRecord::Base.logger = nil
ActiveRecord::Migration.verbose = false

def check(holds, what)
  raise "not so: #{what}" unless holds
end

def equal(found, expected)
  check(found == expected, "#{found.inspect} is #{expected.inspect}")
end

# A pool of six connections that prepares nothing, and what asks the thread's own in a transaction for each question.
def application(mode, **options)
  login = { adapter: 'postgresql', host: '127.0.0.1', port: PORTS[mode], username: 'postgres', database: 'postgres' }
  options = { pool: 6, prepared_statements: false, application_name: 'rails' }.merge(options)
  ActiveRecord::Base.establish_connection(login.merge(options))
  yield ->(query) { ActiveRecord::Base.connection.select_value(query) }
ensure
  ActiveRecord::Base.remove_connection
end

# A client without habits.
def plain(mode)
  connection = PG.connect(host: '127.0.0.1', port: PORTS[mode], user: 'postgres', dbname: 'postgres')
  yield ->(query) { connection.exec(query).getvalue(0, 0) }
ensure
  connection&.close
end

def make_books(count)
  Book.connection.create_table(:books, force: true) { |table| table.text :title }
  Book.reset_column_information
  Book.insert_all!(Array.new(count) { |number| { title: number.to_s } }) if count > 0
end

def run(*statements)
  statements.each { |statement| ActiveRecord::Base.connection.execute(statement) }
end

# Nothing keeps a client's transactions together.
def moves(mode, ask)
  first = ask.(PID)
  turns = mode == 'transaction' ? 2000 : 4
  equal(turns.times.any? { ask.(PID) != first }, mode == 'transaction')
end

# All transactions of a client are on one connection, for this reason.
def stays(mode, ask, reason)
  equal(Array.new(6) { ask.(PID) }.uniq.size, 1)
  check(mode != 'transaction' || shown?(ask.("SELECT current_setting('application_name')"), reason), reason)
end

# Whether the console comes to say that an application is pinned so. One without the command says yes.
def shown?(name, reason)
  connection = PG.connect(host: '127.0.0.1', port: PORTS['transaction'], user: 'postgres', dbname: 'headpond')
  5000.times.any? do
    connection.exec('SHOW PINS').any? { |row| row['application_name'] == name && row['reasons'].include?(reason) }
  end
rescue PG::Error
  true
ensure
  connection&.close
end

# Runs the block with 0, 1, … at the same time, each with a connection of its own.
def together(count = 6)
  threads = Array.new(count) do |number|
    Thread.new do
      Thread.current.report_on_exception = false
      ActiveRecord::Base.connection_pool.with_connection { yield number }
    end
  end
  threads.each(&:join)
end

SETTINGS = {
  'client_min_messages' => %w[warning notice],
  'standard_conforming_strings' => %w[on on],
  'intervalstyle' => %w[iso_8601 postgres],
  'search_path' => ['shelf, public', '"$user", public'],
  'TimeZone' => ['UTC', nil],
  'statement_timeout' => %w[9s 0],
  'client_encoding' => %w[LATIN1 UTF8]
}.freeze

CLAIMS = {
  'what rails sets at connect follows each connection': lambda do |mode|
    plain(mode) do |other|
      options = { encoding: 'LATIN1', schema_search_path: 'shelf, public', variables: { statement_timeout: '9s' } }
      application(mode, **options) do
        together do
          20.times do
            SETTINGS.each { |name, (mine, _)| equal(Book.connection.select_value("SHOW #{name}"), mine) }
          end
        end
        SETTINGS.each { |name, (_, others)| 3.times { equal(other.("SHOW #{name}"), others) if others } }
        moves(mode, ->(query) { Book.connection.select_value(query) })
        moves(mode, other)
      end
    end
  end,

  'prepared statements are found': lambda do |mode|
    application(mode, prepared_statements: true) do |ask|
      make_books(6)
      together do |number|
        10.times do |turn|
          title = ((number + turn) % 6).to_s
          book = Book.find_by!(title: title)
          equal(Book.where(id: book.id).pluck(:title), [title])
        end
      end
      moves(mode, ask)
    end
  end,

  'prepared statements that are deallocated are prepared again': lambda do |mode|
    application(mode, prepared_statements: true, statement_limit: 2) do |ask|
      make_books(6)
      5.times do |turn|
        equal(Book.find(turn + 1).title, turn.to_s)
        equal(Book.find_by(title: turn.to_s).id, turn + 1)
        equal(Book.where('id < ?', turn + 1).where(title: '0').count, turn.zero? ? 0 : 1)
        equal(Book.where(title: turn.to_s).exists?, true)
      end
      moves(mode, ask)
    end
  end,

  'a connection that is reset is like a new one': lambda do |mode|
    application(mode, prepared_statements: true, variables: { statement_timeout: '9s' }) do |ask|
      make_books(2)
      Book.find(1)
      run('CREATE TEMP TABLE basket (n int)', "SET search_path = 'nowhere'", 'LISTEN news')
      stays(mode, ask, 'temporary_objects')
      Book.connection.reset!
      moves(mode, ask)
      3.times do
        equal(Book.find(2).title, '1')
        equal([ask.('SHOW search_path'), ask.('SHOW statement_timeout')], ['"$user", public', '9s'])
        equal([ask.("SELECT to_regclass('pg_temp.basket')::text"), ask.('SELECT count(*) FROM pg_listening_channels()')], [nil, 0])
      end
    end
  end,

  'an advisory lock pins until it is given back': lambda do |mode|
    plain(mode) do |other|
      application(mode) do |ask|
        3.times do
          equal(Book.connection.get_advisory_lock(4711), true)
          equal(other.('SELECT pg_try_advisory_lock(4711)'), 'f')
          stays(mode, ask, 'advisory_locks')
          moves(mode, other)
          equal(Book.connection.release_advisory_lock(4711), true)
          moves(mode, ask)
        end
      end
    end
  end,

  'migrations are alone and leave nothing behind': lambda do |mode|
    application(mode) do |ask|
      run('DROP TABLE IF EXISTS books, schema_migrations, ar_internal_metadata')
      migrate = lambda do |version, &change|
        migration = Class.new(ActiveRecord::Migration[6.1]) { define_method(:up, &change) }.new("m#{version}", version)
        ActiveRecord::Migrator.new(:up, [migration], ActiveRecord::SchemaMigration).migrate
      end
      refused = nil
      migrate.(1) do
        create_table(:books) { |table| table.text :title, default: 'none' }
        add_index :books, :title
        # In another process.
        Thread.new do
          migrate.(2) { nil }
        rescue ActiveRecord::ConcurrentMigrationError => e
          refused = e
        ensure
          ActiveRecord::Base.clear_active_connections!
        end.join
      end
      check(refused, 'the other is refused')
      Book.reset_column_information
      equal(Book.create!.title, 'none')
      equal(ActiveRecord::SchemaMigration.pluck(:version), ['1'])
      equal(ask.("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0)
      moves(mode, ask)
    end
  end,

  'a temporary table pins until it is dropped': lambda do |mode|
    application(mode) do |ask|
      Book.connection.create_table(:basket, temporary: true) { |table| table.integer :n }
      stays(mode, ask, 'temporary_objects')
      run('INSERT INTO basket (n) VALUES (3)')
      equal(ask.('SELECT n FROM basket'), 3)
      Book.connection.drop_table(:basket)
      moves(mode, ask)
    end
  end,

  'a listener pins until it no longer listens': lambda do |mode|
    plain(mode) do |other|
      application(mode) do |ask|
        run('LISTEN news')
        stays(mode, ask, 'listen')
        other.("SELECT pg_notify('news', 'hello')")
        heard = nil
        Book.connection.raw_connection.wait_for_notify(10) { |_, _, payload| heard = payload }
        equal(heard, 'hello')
        run('UNLISTEN news')
        moves(mode, ask)
      end
    end
  end,

  'a savepoint takes its settings back': lambda do |mode|
    application(mode) do |ask|
      make_books(1)
      Book.transaction do
        run("SET LOCAL work_mem = '5MB'")
        Book.transaction(requires_new: true) do
          run("SET LOCAL work_mem = '6MB'", "SET statement_timeout = '8s'")
          Book.create!(title: 'lost')
          raise ActiveRecord::Rollback
        end
        equal([ask.('SHOW work_mem'), ask.('SHOW statement_timeout')], %w[5MB 0])
      end
      3.times { equal([ask.('SHOW work_mem'), ask.('SHOW statement_timeout'), Book.count], ['4MB', '0', 1]) }
      moves(mode, ask)
    end
  end,

  'keys of new rows are their own': lambda do |mode|
    [true, false].each do |returning|
      application(mode, insert_returning: returning) do |ask|
        make_books(1)
        together do |number|
          20.times do |turn|
            book = Book.create!(title: "#{number}/#{turn}")
            equal(Book.find(book.id).title, "#{number}/#{turn}")
          end
        end
        moves(mode, ask) if returning
      end
    end
  end,

  # Without RETURNING, and outside a transaction, Rails asks for currval in the next: an error that says so will do.
  'nobody is given the last value of another': lambda do |mode|
    application(mode, insert_returning: false) do
      make_books(1)
      together do |number|
        10.times do |turn|
          id = Book.connection.insert("INSERT INTO books (title) VALUES ('#{number}/#{turn}')", nil, 'id', nil, 'books_id_seq')
          equal(Book.find(id).title, "#{number}/#{turn}")
        rescue ActiveRecord::StatementInvalid => e
          raise unless mode == 'transaction' && e.cause.is_a?(PG::ObjectNotInPrerequisiteState)
        ensure
          # Neither draws a value nor asks for one: what pinned ends.
          Book.connection.select_value('SELECT 1')
        end
      end
    end
  end
}.freeze

passed = failed = 0
CLAIMS.each do |claim, holds|
  PORTS.each_key do |mode|
    holds.(mode)
    passed += 1
  rescue StandardError => e
    failed += 1
    puts "FAILED #{claim}, #{mode}", e.full_message(highlight: false)
  end
end
puts "orm-ruby: #{passed} passed, #{failed} failed"
exit(failed.zero?)
