from identity_server.cli.main import main

main()
