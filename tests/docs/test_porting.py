"""The porting guide: each row of its table is proved by tests, and its worked port works.

The design of the filter model names what must be there; ``DESIGN`` is that list. A row without a
test, a test that is not there, and a name of the design without a row are failures.
"""

from __future__ import annotations

import ast
import functools
import re
import types

import pytest

from sluicegate.testing import Playbook, check_data_filter
from tests.docs.page_runner import BLOCK
from tests.repo.source_tree import DOCS, ROOT

PAGE = DOCS / "howto" / "port-a-tmg-filter.md"
ROW = re.compile(r"^\| (?P<there>.+?) \| (?P<here>.+?) \| ?(?P<note>.*?) ?\|$", re.MULTILINE)

#: Every row of the table, by its first cell, and the tests that prove it.
PROOFS: dict[str, tuple[str, ...]] = {
    # The service and its port
    "Firewall service, its completion port": (
        "src/sluicegate/testing/conformance/file_checks.py::check_statistics",
        "src/sluicegate/testing/conformance/socket_checks.py::check_one_start_one_connection",
    ),
    "`IFWXFirewall::HookToCompletionPort`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_hook_is_once",
        "src/sluicegate/testing/conformance/file_checks.py::check_close_joins",
    ),
    "`IFWXFirewall::CreateOverlapped`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_one_operation_at_a_time",
        "src/sluicegate/testing/conformance/file_checks.py::check_overlapped_is_reusable",
    ),
    "`IFWXOverlapped::SetNotificationInterface`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_user_data_comes_back_unchanged",
    ),
    "`IFWXOverlapped::GetOverlapped` + the Windows call": (
        "src/sluicegate/testing/conformance/file_checks.py::check_bytes_count_only_on_success",
        "src/sluicegate/testing/conformance/operation_checks.py::check_start_never_completes_inside",
        "src/sluicegate/testing/conformance/operation_checks.py::check_read_back_what_was_written",
    ),
    "`IFWXExternalIOCompletion::CompleteAsyncIO`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_bytes_count_only_on_success",
        "src/sluicegate/testing/conformance/operation_checks.py::check_end_of_file_is_zero",
        "tests/flows/test_chain.py::test_filter_that_raises_ends_its_connection_only_and_is_named",
    ),
    "`IFWXIOCompletion::CompleteAsyncIO`": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_end_of_stream_reaches_once",
        "tests/flows/test_chain.py::test_every_mix_of_two_passes_bytes_and_ends_on",
    ),
    "`IFWXAcceptCompletion::CompleteAsyncAccept`": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_one_start_one_connection",
        "src/sluicegate/testing/conformance/socket_checks.py::check_listener_close",
        "tests/conformance/test_bounds.py::test_accepted_sockets_that_wait_for_a_start_are_bounded",
    ),
    "`IFWXFirewall2::PostTaskCompletion`, `IFWXTaskCompletion`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_tasks_run_once_and_later",
        "src/sluicegate/testing/conformance/file_checks.py::check_timers_in_order",
    ),
    "`Start`/`EndHeavyBlockingOperation`": (
        "src/sluicegate/testing/conformance/file_checks.py::check_starts_belong_on_the_ports_thread",
        "tests/flows/test_asyncio_on_port.py::test_threads_reach_the_loop_and_are_reached",
    ),
    "`GetHostByName`, `GetHostByAddr` of the service": (
        "tests/flows/test_session_lookups.py::test_name_is_looked_up_by_the_clients_rules_and_filters_are_told",
        "tests/flows/test_session_lookups.py::test_address_is_looked_up_and_filters_are_told_before_and_after",
    ),
    # Sockets and buffers
    "`IFWXSocket` Recv, Send, SendTo, Shutdown, Close": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_receive_and_send",
        "src/sluicegate/testing/conformance/socket_checks.py::check_a_second_operation_is_refused",
        "tests/flows/test_chain.py::test_second_receive_or_send_while_one_is_pending_is_refused",
        "src/sluicegate/testing/conformance/datagram_checks.py::check_socket_tells_the_sender",
    ),
    "`Close(TRUE)`": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_abortive_close_cancels_the_send",
        "tests/flows/test_emulation.py::test_abort_resets_the_client",
    ),
    "`IFWXNetworkSocket` Bind, Listen, Accept": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_one_start_one_connection",
        "tests/flows/test_binds.py::test_peers_of_a_bind_can_be_changed_and_what_is_read_is_a_copy",
        "tests/flows/test_network_sockets.py::test_only_a_peer_that_is_expected_and_allowed_by_a_rule_is_accepted",
        "tests/flows/test_network_sockets.py::test_nobody_gets_in_without_a_rule_for_binds",
    ),
    "`IFWXNetworkSocket::Connect`": (
        "src/sluicegate/testing/conformance/stream_checks.py::check_connect_and_names",
        "src/sluicegate/testing/conformance/stream_checks.py::check_connect_refused",
        "tests/samples/test_server_split.py::test_server_that_refuses_is_passed_over",
        "tests/flows/test_network_sockets.py::test_socket_connects_as_its_client_and_is_recorded_as_its_session",
    ),
    "`GetSockName`, `GetPeerName`": (
        "src/sluicegate/testing/conformance/stream_checks.py::check_connect_and_names",
    ),
    "`IFWXIOBuffer`, `CreateBuffer`, `CreateConstBuffer`": (
        "tests/flows/test_chain.py::test_buffer_that_was_sent_cannot_be_written_until_it_is_back",
        "src/sluicegate/testing/conformance/socket_checks.py::check_receive_into_a_buffer",
        "tests/flows/test_chain.py::test_buffer_without_room_is_refused",
    ),
    "`CreateWindowBuffer`": (
        "src/sluicegate/testing/conformance/socket_checks.py::check_window_expires",
        "src/sluicegate/testing/conformance/socket_checks.py::check_leased_window_outlives_the_receive",
        "tests/flows/test_chain.py::test_window_is_valid_until_the_next_receive_and_expires_with_it",
    ),
    "reference counts of buffers": (
        "tests/flows/test_chain.py::test_kept_slice_never_shows_another_clients_bytes_and_its_filter_is_named",
        "src/sluicegate/testing/conformance/socket_checks.py::check_kept_bytes_stay_the_clients",
    ),
    # Filters
    "`IFWXFilter::FilterInit`": (
        "tests/unit/test_dispatch.py::test_filter_that_fails_is_passed_by_where_the_operator_said_so",
        "tests/unit/test_dispatch.py::test_filter_that_fails_denies_and_is_recorded",
    ),
    "`IFWXFilter::AttachToSession`": (
        "tests/unit/test_dispatch.py::test_first_event_attaches_and_reaches_the_new_session_filter",
        "tests/unit/test_dispatch.py::test_filter_that_takes_no_interest_in_a_session_is_asked_once",
        "tests/unit/test_dispatch.py::test_filter_is_not_told_of_what_it_did_not_register_for",
    ),
    "`IFWXFilter::FilterShutdown`": (
        "tests/flows/test_notices.py::test_filters_are_stopped_with_the_service",
    ),
    "`IFWXSessionFilter::FirewallEventHandler`": (
        "tests/unit/test_dispatch.py::test_coroutines_and_plain_answers_mix",
        "tests/unit/test_dispatch.py::test_late_filter_denies_even_when_it_swallows_its_cancellation",
    ),
    "`IFWXSessionFilter::Detach`": (
        "tests/flows/test_binds.py::test_filter_is_attached_to_a_session_whose_rule_does_not_name_it",
    ),
    "`IFWXDataFilter::SetSockets`": (
        "tests/flows/test_chain.py::test_every_mix_of_two_passes_bytes_and_ends_on",
        "tests/flows/test_chain.py::test_connection_whose_last_filter_left_is_spliced",
        "tests/flows/test_emulation.py::test_context_reaches_a_callback_filter",
    ),
    "`IFWXDataFilter::Detach`": (
        "tests/flows/test_chain.py::test_detach_comes_also_when_the_sockets_never_did",
        "tests/flows/test_chain.py::test_pending_operations_are_told_before_detach",
    ),
    "`IFWXSlowDataFilter::OkToTerminate`": (
        "tests/flows/test_chain.py::test_coroutine_that_goes_on_after_its_connection_is_waited_for_and_then_cancelled",
    ),
    "`FwxDataFilterPriorityClass`": (
        "tests/flows/test_chain.py::test_filters_stand_in_the_order_of_position_and_then_of_the_rule",
        "tests/flows/test_emulation.py::test_emulation_stands_behind_every_other_filter",
    ),
    "data of another protocol on the port": (
        "tests/flows/test_chain.py::test_filters_leave_without_a_byte_lost_or_doubled",
    ),
    # Events
    "`FwxFilterHookEvents`": (
        "tests/unit/test_events.py::test_registration_is_by_type_source_and_generation",
    ),
    "`fwxSourceNAT`, `fwxSourceWSP`": (
        "tests/unit/test_events.py::test_event_says_whose_it_is_and_how_the_client_came",
        "tests/flows/test_lookups.py::test_lookup_is_told_before_and_after_and_then_the_connection",
    ),
    "`fwx_Connect_Tcp`": (
        "tests/flows/test_emulation.py::test_filter_plays_the_server_and_nobody_is_dialled",
        "tests/unit/test_events.py::test_an_answer_that_an_event_does_not_take_is_a_failure_of_the_filter",
    ),
    "`fwx_Udp_Destination`": (
        "tests/flows/test_udp.py::test_a_destination_is_asked_about_once_until_it_is_forgotten",
        "tests/flows/test_udp.py::test_datagrams_wait_for_a_slow_answer_up_to_a_bound",
        "tests/unit/test_events.py::test_udp_destination_names_its_peer",
    ),
    "`fwx_Bind_Tcp`": (
        "tests/flows/test_binds.py::test_bind_for_client_asks_then_tells_then_accepts",
        "tests/flows/test_binds.py::test_denied_bind_raises_and_leaves_no_socket",
    ),
    "`fwx_Bind_Udp`": (
        "tests/unit/test_events.py::test_event_says_whose_it_is_and_how_the_client_came",
        "tests/flows/test_udp.py::test_a_denied_bind_is_no_connection",
    ),
    "`fwx_Listen`": (
        "tests/flows/test_binds.py::test_listen_cannot_be_refused",
        "tests/unit/test_events.py::test_listen_cannot_be_refused",
    ),
    "`fwx_AcceptedConnection`": (
        "tests/flows/test_binds.py::test_bind_for_client_asks_then_tells_then_accepts",
        "tests/flows/test_binds.py::test_accepted_connection_that_is_denied_is_aborted",
    ),
    "`fwx_GetHostByName`, `IFWXGetXByY`": (
        "tests/flows/test_lookups.py::test_filter_answers_in_the_resolvers_place_and_nothing_is_asked",
        "tests/flows/test_lookups.py::test_filter_replaces_what_was_found",
        "tests/flows/test_lookups.py::test_denied_lookup_is_an_unknown_name_to_the_client",
        "tests/flows/test_lookups.py::test_policy_judges_what_a_filter_answers",
    ),
    "`fwx_GetHostByAddr`": (
        "tests/flows/test_session_lookups.py::test_address_is_looked_up_and_filters_are_told_before_and_after",
        "tests/flows/test_session_lookups.py::test_filter_denies_an_address_or_answers_for_it",
        "tests/flows/test_session_lookups.py::test_address_that_is_not_public_causes_no_query_and_reaches_no_filter",
        "tests/unit/test_events.py::test_address_lookup_takes_a_result_while_it_is_open",
    ),
    "`fwx_ConnectionTerminating`": (
        "tests/unit/test_dispatch.py::test_session_filters_are_told_of_the_end",
        "tests/unit/test_dispatch.py::test_end_reaches_nobody_whose_session_filter_never_was",
    ),
    "`fwx_EstablishedConnection`": (
        "tests/flows/test_binds.py::test_who_expected_a_connection_is_told_that_it_came_up_and_nobody_else_is",
        "tests/unit/test_events.py::test_established_cannot_be_registered_for",
    ),
    "`IsSecondary`": (
        "tests/flows/test_binds.py::test_bind_for_client_asks_then_tells_then_accepts",
    ),
    "`PerRuleProcessedData`, `IFWXPerRuleData`": (
        "tests/flows/test_connection_filter.py::test_events_deliver_the_typed_settings_and_a_table_where_nothing_is_declared",
        "tests/unit/test_dispatch.py::test_filter_sees_its_own_rules_settings",
    ),
    # Verdicts
    "`FWX_PASS`": ("tests/unit/test_dispatch.py::test_verdicts_combine",),
    "`FWX_ALLOW`": (
        "tests/unit/test_events.py::test_allow_overrides_the_built_in_check_and_nothing_else_does",
    ),
    "`FWX_DENY`, `IFWXConnection::Deny`": (
        "tests/unit/test_dispatch.py::test_verdicts_combine",
        "tests/unit/test_events.py::test_deny_beats_emulation_and_detaches_who_would_have_played",
    ),
    "`FWX_EMULATE`, `EmulateForConnect`": (
        "tests/flows/test_emulation.py::test_filter_plays_the_server_and_nobody_is_dialled",
        "tests/unit/test_events.py::test_second_emulator_is_refused_by_the_name_of_the_first",
        "tests/flows/test_emulation.py::test_second_emulator_is_a_failure_and_neither_plays",
    ),
    "`FWX_E_BAD_CONTEXT`": (
        "tests/unit/test_dispatch.py::test_data_filters_are_attached_while_the_event_is_handled_and_not_after",
        "tests/flows/test_binds.py::test_name_is_given_while_the_bind_is_judged_and_only_then",
    ),
    # Connections
    "`IFWXConnection::AttachDataFilter`": (
        "tests/unit/test_dispatch.py::test_data_filters_are_attached_while_the_event_is_handled_and_not_after",
    ),
    "`IFWXUdpDestination`": (
        "tests/flows/test_udp.py::test_a_denied_peer_gets_nothing_and_its_datagrams_are_counted",
        "tests/flows/test_udp.py::test_a_filter_attached_for_a_peer_sees_all_and_is_gone_with_it",
    ),
    "`EmulateForBind`": (
        "tests/flows/test_binds.py::test_emulated_bind_has_no_socket_and_gets_its_connections_from_the_filter",
        "tests/flows/test_binds.py::test_emulated_bind_without_a_name_is_denied",
    ),
    "bind, listen and accept of Firewall clients": (
        "tests/flows/test_socks_bind.py::test_client_is_answered_twice_and_gets_what_the_peer_connects",
        "tests/flows/test_socks_bind.py::test_filters_are_asked_told_and_asked_again",
        "tests/flows/test_socks_bind.py::test_emulated_bind_is_answered_with_its_name_and_played_by_the_filter",
    ),
    "`EmulateConnection`": (
        "tests/flows/test_binds.py::test_emulated_bind_has_no_socket_and_gets_its_connections_from_the_filter",
        "tests/flows/test_binds.py::test_emulated_bind_brings_many_where_many_are_allowed",
        "tests/flows/test_binds.py::test_connection_to_an_emulated_bind_may_be_denied_and_its_player_is_let_go",
    ),
    "`SetSocketName`": (
        "tests/flows/test_binds.py::test_name_is_given_while_the_bind_is_judged_and_only_then",
    ),
    "`SetClientAddress`": (
        "tests/flows/test_binds.py::test_client_address_may_come_later_and_nobody_gets_in_before",
    ),
    "`SetIpFilter`, `GetIpFilter`": (
        "tests/flows/test_binds.py::test_peers_of_a_bind_can_be_changed_and_what_is_read_is_a_copy",
    ),
    "`IncrementBytesSentCounter`": (
        "tests/flows/test_emulation.py::test_emulation_counts_what_it_sent_for_the_client",
    ),
    "`Kill`": (
        "tests/flows/test_chain.py::test_connection_refused_by_a_filter_says_so",
        "tests/flows/test_emulation.py::test_refusal_out_of_the_emulation_is_recorded",
    ),
    "`GetExternalSocketName`, `GetExternalPeerName`": (
        "tests/flows/test_connection_filter.py::test_filter_knows_all_four_ends_and_the_server_sees_the_gates_own_address",
    ),
    "`GetSession`": (
        "tests/unit/test_events.py::test_event_says_whose_it_is_and_how_the_client_came",
    ),
    "`GetConnectionFlags`": (
        "tests/flows/test_connection_filter.py::test_filter_knows_all_four_ends_and_the_server_sees_the_gates_own_address",
    ),
    "`SetBufferSize`": (
        "src/sluicegate/testing/conformance/datagram_checks.py::check_socket_drops_what_does_not_fit",
        "tests/flows/test_udp.py::test_an_oversized_datagram_is_dropped_counted_and_recorded_both_ways",
    ),
    # Sessions and actions
    "`GetClientAddress`": (
        "tests/flows/test_connection_filter.py::test_filter_knows_all_four_ends_and_the_server_sees_the_gates_own_address",
    ),
    "`GetAuthenticatedUser`, `IFWXAuthenticatedUser`": (
        "tests/flows/test_notices.py::test_user_of_a_session_is_who_the_client_proved_to_be",
    ),
    "`CreatePrivateSession`": (
        "tests/flows/test_private_sessions.py::test_connection_is_made_and_recorded_in_the_users_name",
        "tests/flows/test_private_sessions.py::test_session_that_is_closed_ends_its_connections_and_makes_no_more",
    ),
    "`IFWXSession::CreateNetworkSocket`": (
        "tests/flows/test_private_sessions.py::test_connection_is_made_and_recorded_in_the_users_name",
        "tests/flows/test_private_sessions.py::test_what_the_rules_refuse_is_refused_and_recorded",
        "tests/flows/test_network_sockets.py::test_socket_connects_as_its_client_and_is_recorded_as_its_session",
        "tests/flows/test_network_sockets.py::test_killed_session_loses_its_sockets_and_an_ended_one_makes_no_more",
        "tests/flows/test_network_sockets.py::test_sockets_count_among_the_connections_of_the_client",
    ),
    "`HostAccessCheck`": (
        "tests/flows/test_private_sessions.py::test_what_the_rules_refuse_is_refused_and_recorded",
        "tests/flows/test_private_sessions.py::test_listener_without_rules_lets_nobody_through",
        "tests/flows/test_network_sockets.py::test_access_is_checked_by_the_rules_of_the_client_and_nothing_is_asked",
        "tests/flows/test_network_sockets.py::test_client_of_a_published_port_reaches_nothing_by_itself",
    ),
    "`AllowFutureConnect`": (
        "tests/flows/test_cell_calls.py::test_expected_client_gets_there_once_through_the_filter_and_somebody_is_told",
        "tests/flows/test_binds.py::test_expectation_is_used_once_unless_more_are_allowed",
        "tests/flows/test_ftp_access.py::test_data_connection_of_somebody_else_is_turned_away",
        "tests/flows/test_foreseen.py::test_client_gets_there_by_the_proxy_once_through_the_filter_that_was_set",
        "tests/flows/test_foreseen.py::test_nobody_else_gets_there_and_no_other_host",
    ),
    "`BindForClient`": (
        "tests/flows/test_cell_calls.py::test_server_that_is_expected_reaches_the_client_and_nobody_else_does",
        "tests/flows/test_binds.py::test_bind_for_client_asks_then_tells_then_accepts",
        "tests/flows/test_binds.py::test_filter_that_answers_later_lets_nobody_in_before",
    ),
    "`EmulateClientBind`": (
        "tests/flows/test_binds.py::test_emulated_bind_has_no_socket_and_gets_its_connections_from_the_filter",
    ),
    "`RedirectConnections`": (
        "tests/flows/test_cell_calls.py::test_consecutive_ports_lead_to_the_targets_and_each_can_be_withdrawn",
        "tests/flows/test_binds.py::test_redirection_gives_consecutive_ports_each_to_its_target",
        "tests/flows/test_binds.py::test_redirection_takes_the_first_run_of_ports_that_is_free",
    ),
    "`RetroactiveAllowBind`": (
        "tests/flows/test_cell_calls.py::test_server_that_is_expected_reaches_the_client_and_nobody_else_does",
        "tests/flows/test_binds.py::test_bind_may_be_retroactively_allowed_to_others",
    ),
    "`SetDataFilterFactory`": (
        "tests/flows/test_cell_calls.py::test_filters_come_by_themselves_to_connections_that_were_foreseen",
        "tests/flows/test_binds.py::test_factory_attaches_to_events_that_the_filter_did_not_register_for",
        "tests/flows/test_binds.py::test_factory_for_accepted_connections_is_by_the_bound_address",
        "tests/flows/test_binds.py::test_factory_runs_for_a_rule_without_any_filter",
    ),
    "`AttachFilter`": (
        "tests/flows/test_binds.py::test_filter_is_attached_to_a_session_whose_rule_does_not_name_it",
    ),
    "`FWX_FLAG_ALLOW_MULTIPLE`": (
        "tests/flows/test_binds.py::test_expectation_is_used_once_unless_more_are_allowed",
    ),
    "`FWX_FLAG_TIMEOUT`": (
        "tests/flows/test_binds.py::test_expectation_lapses_unused_and_each_use_begins_the_time_anew",
    ),
    "`FWX_FLAG_ADDRESS_BASED`": (
        "tests/flows/test_ftp_access.py::test_data_connection_of_somebody_else_is_turned_away",
    ),
    "`PORT_ANY`": (
        "tests/flows/test_ftp_access.py::test_passive_ports_bound_what_is_announced",
        "tests/flows/test_ftp_access.py::test_every_port_of_the_range_is_tried",
    ),
    "`IFWXFirewallAction::Cancel`": (
        "tests/flows/test_binds.py::test_expectation_is_used_once_unless_more_are_allowed",
        "tests/flows/test_binds.py::test_every_expectation_ends_with_its_primary",
    ),
    "`IFWXIpFilter`": (
        "tests/unit/test_address_filter.py::test_filters_include_and_exclude_ranges_and_each_other",
        "tests/unit/test_address_filter.py::test_copies_are_independent_and_compare_by_their_ranges",
    ),
    # Around it
    "`IFWXLowResourceRecoverer`": (
        "tests/unit/test_recovery.py::test_filter_is_asked_until_it_has_done_what_it_can_and_again_next_time",
        "tests/flows/test_notices.py::test_listener_that_found_no_descriptor_has_filters_give_back_and_goes_on",
    ),
    "`IFWXNetConfigDetector`": (
        "tests/kernel/test_network_watch.py::test_watch_follows_interfaces_and_addresses_and_survives_an_overrun",
        "tests/flows/test_notices.py::test_filters_are_told_of_the_network",
    ),
    "`IFWXPolicyChangeNotification`": (
        "tests/flows/test_notices.py::test_filters_are_told_of_a_policy_that_is_another_one",
    ),
    "`IFWXFilterAdmin`": (
        "tests/unit/test_config.py::test_filter_is_made_with_its_typed_settings",
    ),
    "ExeBlock: FTP control filter + scanner": (
        "tests/flows/test_ftp_access.py::test_refused_download_gives_the_client_no_byte_and_a_550_with_the_reason",
        "tests/unit/test_exe_block.py::test_executables_are_refused_with_what_was_found_and_where",
        "tests/real/test_ftp_by_proxy.py::test_executable_is_not_fetched",
    ),
    "ServerSplit": (
        "tests/samples/test_server_split.py::test_each_client_gets_the_next_server_and_the_first_one_follows_the_last",
    ),
    # Web filters
    "`HttpFilterProc`, `HttpWPXFilterProc`, `dwFlags`": (
        "tests/flows/test_web_filters.py::test_every_request_of_a_connection_passes_the_filters",
        "tests/flows/test_web_filters.py::test_a_filter_that_could_not_be_shown_what_it_needs_blocks_its_rule",
    ),
    "`HTTP_FILTER_CONTEXT` and its private pointer": (
        "tests/unit/test_web_filters.py::test_state_is_the_filters_own_and_the_exchanges_own",
    ),
    "`SF_NOTIFY_PREPROC_HEADERS`, `SF_NOTIFY_AUTH_COMPLETE`, `SF_NOTIFY_POLICY_CHECK_COMPLETED`": (
        "tests/flows/test_web_filters.py::test_a_path_that_a_filter_changes_is_judged_again",
        "tests/flows/test_web_filters.py::test_filters_see_which_rule_each_request_of_a_connection_came_by",
    ),
    "`SF_NOTIFY_ROUTING`": (
        "tests/flows/test_web_filters.py::test_a_request_is_led_elsewhere_only_where_policy_lets_it",
    ),
    "`SF_NOTIFY_READ_RAW_DATA`, `SF_NOTIFY_FORWARD_RAW_DATA`": (
        "tests/flows/test_web_filters.py::test_bodies_are_changed_both_ways_and_the_connection_goes_on",
    ),
    "`SF_NOTIFY_FORWARD_RAW_DATA_COMPLETED`, `SF_STATUS_REQ_READ_NEXT`": (
        "tests/flows/test_web_filters.py::test_whole_bodies_are_held_and_heads_may_say_what_was_found",
        "tests/flows/test_web_filters.py::test_what_becomes_of_a_whole_body",
    ),
    "`SF_NOTIFY_RECEIVE_RESPONSE_HEADERS`": (
        "tests/flows/test_web_filters.py::test_a_response_that_is_refused_is_not_told",
    ),
    "`SF_NOTIFY_RECEIVE_RESPONSE_RAW_DATA`, `SF_NOTIFY_SEND_RAW_DATA`": (
        "tests/flows/test_web_filters.py::test_a_compressed_page_is_shown_as_text",
        "tests/flows/test_web_filters.py::test_whole_bodies_are_held_and_heads_may_say_what_was_found",
    ),
    "`SF_REQ_SEND_RESPONSE_HEADERS`, `SF_NOTIFY_SEND_RESPONSE`": (
        "tests/flows/test_web_filters.py::test_a_filter_answers_itself_and_redirects",
        "tests/flows/test_web_filters.py::test_a_refusal_is_a_page_or_a_problem_and_the_connection_goes_on",
    ),
    "`SF_NOTIFY_ACCESS_DENIED`, `SF_NOTIFY_END_OF_REQUEST`": (
        "tests/flows/test_web_filters.py::test_filters_are_told_of_an_end_that_nobody_wanted",
        "tests/flows/test_web_filters.py::test_every_request_of_a_connection_passes_the_filters",
    ),
    "`SF_NOTIFY_LOG`": (
        "tests/flows/test_web_filters.py::test_every_request_of_a_connection_passes_the_filters",
    ),
    "`SF_NOTIFY_END_OF_NET_SESSION`": (
        "tests/unit/test_dispatch.py::test_session_filters_are_told_of_the_end",
    ),
    "`SF_REQ_DISABLE_NOTIFICATIONS`": (
        "tests/unit/test_web_filters.py::test_a_message_may_be_left_alone",
        "tests/unit/test_web_filters.py::test_a_filter_may_take_piece_by_piece_what_it_cannot_have_whole",
    ),
    "`SF_NOTIFY_URL_MAP`, `SF_NOTIFY_AUTHENTICATION`": (
        "tests/flows/test_web_connections.py::test_who_asks_is_asked_for_with_407",
    ),
    "priority of web filters": (
        "tests/unit/test_web_filters.py::test_requests_meet_filters_in_order_and_responses_the_other_way_round",
    ),
}

#: What the design of the filter model has name by name, and the rows that cover it.
DESIGN: dict[str, tuple[str, ...]] = {
    "Firewall service, its completion port": ("Firewall service, its completion port",),
    "IFWXFirewall::HookToCompletionPort": ("`IFWXFirewall::HookToCompletionPort`",),
    "IFWXFirewall::CreateOverlapped": ("`IFWXFirewall::CreateOverlapped`",),
    "IFWXOverlapped::SetNotificationInterface": ("`IFWXOverlapped::SetNotificationInterface`",),
    "IFWXOverlapped::GetOverlapped + the Windows call": (
        "`IFWXOverlapped::GetOverlapped` + the Windows call",
    ),
    "IFWXExternalIOCompletion::CompleteAsyncIO": ("`IFWXExternalIOCompletion::CompleteAsyncIO`",),
    "IFWXIOCompletion::CompleteAsyncIO": ("`IFWXIOCompletion::CompleteAsyncIO`",),
    "IFWXAcceptCompletion": ("`IFWXAcceptCompletion::CompleteAsyncAccept`",),
    "IFWXTaskCompletion, PostTaskCompletion": (
        "`IFWXFirewall2::PostTaskCompletion`, `IFWXTaskCompletion`",
    ),
    "Start/EndHeavyBlockingOperation": ("`Start`/`EndHeavyBlockingOperation`",),
    "IFWXSocket Recv, Send, SendTo, Shutdown, Close": (
        "`IFWXSocket` Recv, Send, SendTo, Shutdown, Close",
        "`Close(TRUE)`",
    ),
    "IFWXNetworkSocket": (
        "`IFWXNetworkSocket` Bind, Listen, Accept",
        "`IFWXNetworkSocket::Connect`",
        "`GetSockName`, `GetPeerName`",
    ),
    "IFWXIOBuffer, CreateBuffer/ConstBuffer/WindowBuffer": (
        "`IFWXIOBuffer`, `CreateBuffer`, `CreateConstBuffer`",
        "`CreateWindowBuffer`",
        "reference counts of buffers",
    ),
    "IFWXFilter": (
        "`IFWXFilter::FilterInit`",
        "`IFWXFilter::AttachToSession`",
        "`IFWXFilter::FilterShutdown`",
    ),
    "IFWXSessionFilter": (
        "`IFWXSessionFilter::FirewallEventHandler`",
        "`IFWXSessionFilter::Detach`",
    ),
    "IFWXDataFilter": (
        "`IFWXDataFilter::SetSockets`",
        "`IFWXDataFilter::Detach`",
    ),
    "IFWXSlowDataFilter::OkToTerminate": ("`IFWXSlowDataFilter::OkToTerminate`",),
    "events (ten types)": (
        "`fwx_Connect_Tcp`",
        "`fwx_Udp_Destination`",
        "`fwx_Bind_Tcp`",
        "`fwx_Bind_Udp`",
        "`fwx_Listen`",
        "`fwx_AcceptedConnection`",
        "`fwx_GetHostByName`, `IFWXGetXByY`",
        "`fwx_GetHostByAddr`",
        "`fwx_ConnectionTerminating`",
        "`fwx_EstablishedConnection`",
    ),
    "verdicts ALLOW / DENY / PASS / EMULATE": (
        "`FWX_ALLOW`",
        "`FWX_DENY`, `IFWXConnection::Deny`",
        "`FWX_PASS`",
        "`FWX_EMULATE`, `EmulateForConnect`",
        "`FWX_E_BAD_CONTEXT`",
    ),
    "priority classes": ("`FwxDataFilterPriorityClass`",),
    "AllowFutureConnect, BindForClient and their kin": (
        "`AllowFutureConnect`",
        "`BindForClient`",
        "`RetroactiveAllowBind`",
        "`RedirectConnections`",
        "`SetDataFilterFactory`",
    ),
    "IFWXConnection and its kin, per-rule data, recovery, network detection, policy change": (
        "`GetSession`",
        "`IFWXUdpDestination`",
        "`GetClientAddress`",
        "`GetAuthenticatedUser`, `IFWXAuthenticatedUser`",
        "`IFWXIpFilter`",
        "`IFWXFirewallAction::Cancel`",
        "`PerRuleProcessedData`, `IFWXPerRuleData`",
        "`IFWXLowResourceRecoverer`",
        "`IFWXNetConfigDetector`",
        "`IFWXPolicyChangeNotification`",
    ),
    "ExeBlock: FTP control filter + scanner": ("ExeBlock: FTP control filter + scanner",),
    "web filters and their notifications": (
        "`HttpFilterProc`, `HttpWPXFilterProc`, `dwFlags`",
        "`HTTP_FILTER_CONTEXT` and its private pointer",
        (
            "`SF_NOTIFY_PREPROC_HEADERS`, `SF_NOTIFY_AUTH_COMPLETE`, "
            "`SF_NOTIFY_POLICY_CHECK_COMPLETED`"
        ),
        "`SF_NOTIFY_ROUTING`",
        "`SF_NOTIFY_READ_RAW_DATA`, `SF_NOTIFY_FORWARD_RAW_DATA`",
        "`SF_NOTIFY_FORWARD_RAW_DATA_COMPLETED`, `SF_STATUS_REQ_READ_NEXT`",
        "`SF_NOTIFY_RECEIVE_RESPONSE_HEADERS`",
        "`SF_NOTIFY_RECEIVE_RESPONSE_RAW_DATA`, `SF_NOTIFY_SEND_RAW_DATA`",
        "`SF_REQ_SEND_RESPONSE_HEADERS`, `SF_NOTIFY_SEND_RESPONSE`",
        "`SF_NOTIFY_ACCESS_DENIED`, `SF_NOTIFY_END_OF_REQUEST`",
        "`SF_NOTIFY_LOG`",
    ),
}


def rows() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("## Name by name") : text.index("## A worked port")]
    return [row["there"] for row in ROW.finditer(table) if row["there"] not in {"there", "---"}]


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


@pytest.mark.parametrize("row", rows())
def test_row_is_proved_by_tests_that_are_there(row: str) -> None:
    proofs = PROOFS.get(row)
    assert proofs, "name the tests that prove this row"
    for proof in proofs:
        path, _, name = proof.partition("::")
        assert (ROOT / path).is_file(), proof
        assert name in functions_of(path), f"{proof} does not exist"
        assert name.startswith(("test_", "check_")), f"{proof} is no test"


def test_no_proof_is_for_a_row_that_is_gone() -> None:
    assert set(PROOFS) == set(rows())
    assert len(rows()) == len(set(rows())), "a row is there twice"


@pytest.mark.parametrize("name", DESIGN)
def test_design_is_covered(name: str) -> None:
    missing = [row for row in DESIGN[name] if row not in rows()]
    assert not missing


# -- the worked port -------------------------------------------------------------------------------


def ported() -> types.SimpleNamespace:
    """Run the page's code, as a reader's module would."""
    found = BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    code = "".join(block["body"] for block in found if block["language"] == "python")
    names: dict[str, object] = {"__name__": "ported"}
    exec(compile(code, PAGE.name, "exec"), names)
    return types.SimpleNamespace(**names)


@pytest.mark.parametrize("name", ["KeepCopy", "KeepCopyToo"])
def test_ported_filter_passes_both_directions_and_ends(name: str) -> None:
    with Playbook(getattr(ported(), name)) as play:
        play.client.sends(b"GET /\r\n")
        play.server.receives(b"GET /\r\n")
        play.server.sends(b"220 ready\r\n" * 500)
        play.client.receives(b"220 ready\r\n" * 500)
        play.server.ends()
        play.client.receives_end()
        play.client.ends()
        play.exchange.expect_released()


def test_coroutine_of_the_port_keeps_every_promise_of_a_data_filter() -> None:
    check_data_filter(ported().KeepCopyToo)


def test_callbacks_of_the_port_leave_nothing_behind_when_a_client_goes() -> None:
    with Playbook(ported().KeepCopy) as play:
        play.server.sends(b"220 ready\r\n")
        play.client.receives(b"220 ready\r\n")
        play.client.resets()
        play.exchange.expect_failed()
